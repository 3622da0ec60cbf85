"""Logs and the audit of real processes: callers and operations, but no content."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from support.deployment import Deployment, ask, eventually

from portico.client import Client

TRACED = Path(__file__).parent / "agents" / "traced.py"
SECRET = "sk-abcdefghijklmnop1234567890"


@pytest.fixture(scope="module")
def logging_deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    directory = tmp_path_factory.mktemp("logging")
    environment = {
        "PORTICO_CORE_LOG_FORMAT": "json",
        "PORTICO_HTTP_LOG_FORMAT": "json",
        "PORTICO_CORE_AUDIT_LOG": str(directory / "audit.log"),
        "PORTICO_CORE_AUTH": "true",
        "PORTICO_CORE_ADMIN_KEY": "an-admin-key-that-is-long-enough-for-it",
    }
    started = Deployment(TRACED, directory, env=environment)
    yield started
    started.stop()


def audit(deployment: Deployment) -> list[dict[str, object]]:
    """Returns the audit lines, except those of the A2A gateway, which has no key for notifications and is
    refused.
    """
    text = (deployment.directory / "audit.log").read_text()
    assert '"method":"ClaimPushes","outcome":"UNAUTHENTICATED"' in text
    return [line for line in map(json.loads, text.splitlines()) if line.get("method") != "ClaimPushes"]


async def test_who_did_what_is_a_line_each(logging_deployment: Deployment) -> None:
    admin = {"authorization": "Bearer an-admin-key-that-is-long-enough-for-it"}
    async with httpx.AsyncClient(base_url=logging_deployment.url, timeout=60) as http:
        # The gateway reports the address; a header of the caller does not count.
        headers = {**admin, "x-portico-client-address": "203.0.113.9"}
        headers |= {"x-request-id": "mine-1", "traceparent": f"00-{'ab' * 16}-{'cd' * 8}-01"}
        body = ask(f"fail Bearer {SECRET}", user_id="ann", session_id="s")
        run_id = (await http.post("/process", json=body, headers=headers)).headers["x-run-id"]
        await http.get(f"/runs/{run_id}", headers=admin)
        await http.post(f"/runs/{run_id}/cancel", headers=admin)
        await http.delete(f"/runs/{run_id}", headers=admin)
        await http.get("/runs/resp_none", headers=admin)
        await http.get(f"/runs/{run_id}", headers={"authorization": "Bearer wrong"})
    elsewhere = {"x-portico-client-address": "203.0.113.9"}
    credential = admin["authorization"][7:]
    async with Client(logging_deployment.target, credential=credential, metadata=elsewhere) as client:
        async for _ in client.runs.query("say hello", user_id="ann"):
            pass

    def lines() -> list[tuple[object, ...]]:
        return [(line["action"], line["method"], line["outcome"]) for line in audit(logging_deployment)]

    expected = [
        ("create", "Query", "OK"),
        ("read", "GetRun", "OK"),
        ("cancel", "CancelRun", "FAILED_PRECONDITION"),
        ("delete", "DeleteRun", "OK"),
        ("read", "GetRun", "NOT_FOUND"),
        ("read", "GetRun", "UNAUTHENTICATED"),
        ("create", "Query", "OK"),
    ]
    await eventually(lambda: lines() == expected)
    places = [(line["address"], line.get("via")) for line in audit(logging_deployment)]
    assert places == [("127.0.0.1", "unix")] * 6 + [("127.0.0.1", None)]
    assert (logging_deployment.directory / "audit.log").stat().st_mode & 0o777 == 0o600
    first = audit(logging_deployment)[0]
    assert first["run_id"] == run_id
    assert (first["user_id"], first["session_id"], first["request_id"]) == ("ann", "s", "mine-1")
    assert first["trace_id"] == "ab" * 16
    assert isinstance(first["caller"], dict)
    assert all("run_id" in line for line in audit(logging_deployment) if line["outcome"] != "UNAUTHENTICATED")
    text = (logging_deployment.directory / "audit.log").read_text()
    assert SECRET not in text
    assert "admin-key" not in text
    assert "hello" not in text

    failed = [
        json.loads(line) for line in logging_deployment.log.read_text().splitlines() if "raised in" in line
    ]
    assert failed[0]["run_id"] == run_id
    assert failed[0]["request_id"] == "mine-1"
    assert failed[0]["trace_id"] == "ab" * 16
    assert "ValueError" in failed[0]["exception"]
    # Callers of a core with auth on do not get exception texts: the log has them, but no credential.
    assert "ValueError: Bearer ***" in failed[0]["exception"]
    assert SECRET not in logging_deployment.log.read_text()
