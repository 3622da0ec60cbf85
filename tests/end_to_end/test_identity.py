"""`portico run --auth` and `portico keys` as real commands; an operator; notifications with a key."""

import asyncio
import json
import os
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest
from support.deployment import SCRIPTED, Deployment, ask, eventually
from support.identity import ADMIN_KEY

from portico.client import Client


def portico(
    target: str, *arguments: str, credential: str = ADMIN_KEY, answer: str = ""
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "portico.cli", *arguments, "--core", target],
        input=answer,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PORTICO_CREDENTIAL": credential, "COLUMNS": "200", "NO_COLOR": "1"},
    )


def bearer(credential: str) -> dict[str, str]:
    return {"authorization": f"Bearer {credential}"}


async def test_keys_are_made_listed_and_revoked_and_live_through_a_restart(tmp_path: Path) -> None:
    env = {"PORTICO_CORE_ADMIN_KEY": ADMIN_KEY}
    deployment = Deployment(SCRIPTED, tmp_path, "--auth", env=env)
    try:
        made = portico(deployment.target, "keys", "create", "ada", "--tenant", "acme", "--expires", "1d")
        assert made.returncode == 0, made.stderr
        key = made.stdout.strip()
        assert key.startswith("pk_")
        said = httpx.post(f"{deployment.url}/process", json=ask("echo hello"), headers=bearer(key))
        assert "hello" in said.text
        assert httpx.post(f"{deployment.url}/process", json=ask("echo hello")).status_code == 401
        chat = portico(deployment.target, "chat", "-m", "echo by terminal", credential=key)
        assert "by terminal" in chat.stdout, chat.stdout + chat.stderr
        refused = portico(deployment.target, "keys", "list", credential=key)
        assert refused.returncode == 1
        assert "scope admin" in refused.stderr
        bad = portico(deployment.target, "keys", "create", "ada", "--expires", "soon")
        assert (bad.returncode, "90d" in bad.stderr) == (2, True)
        deployment.kill("portico.core")
        deployment.wait_ready()
        listed = portico(deployment.target, "keys", "list").stdout
        assert "acme" in listed
        # An operator sees live runs of every tenant, and can cancel them.
        started = httpx.post(
            f"{deployment.url}/runs", json=ask("count 100000 100"), headers=bearer(key)
        ).json()
        async with Client(deployment.target, credential=ADMIN_KEY) as operator:
            live = [run async for run in operator.runs.list(statuses=["created", "in_progress"])]
            assert [run.response.id for run in live] == [started["id"]]
            await operator.runs.cancel(started["id"])
        asked = portico(deployment.target, "forget", "tenant:acme:ada", answer="n\n")
        assert (asked.returncode, "for good?" in asked.stdout) == (1, True)
        forgotten = portico(deployment.target, "forget", "tenant:acme:ada", "--yes")
        counts = forgotten.stdout.split()
        assert counts[counts.index("runs") + 1] == "3", forgotten
        assert counts[counts.index("keys") + 1] == "1", forgotten
        assert not [file for file in tmp_path.rglob("portico.db*") if b"by terminal" in file.read_bytes()]
        assert httpx.get(f"{deployment.url}/runs", headers=bearer(key)).status_code == 401
        key = portico(deployment.target, "keys", "create", "ada", "--tenant", "acme").stdout.strip()
        assert httpx.get(f"{deployment.url}/runs", headers=bearer(key)).json()["runs"] == []
        assert portico(deployment.target, "keys", "revoke", key[:23]).returncode == 0
        assert httpx.get(f"{deployment.url}/runs", headers=bearer(key)).status_code == 401
    finally:
        deployment.stop()


@pytest.mark.parametrize("scope", ["deliver", "read"])
async def test_notifications_are_delivered_with_a_key_for_that(tmp_path: Path, scope: str) -> None:
    told: list[dict[str, Any]] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    receiver = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    thread = Thread(target=receiver.serve_forever)
    thread.start()
    env = {"PORTICO_CORE_ADMIN_KEY": ADMIN_KEY, "PORTICO_A2A_PUSH_ALLOW": '["127.0.0.0/8"]'}
    deployment = Deployment(SCRIPTED, tmp_path, "--auth", env=env)
    try:
        key = portico(deployment.target, "keys", "create", "gateway", "--scope", scope).stdout.strip()
        deployment.stop()
        deployment = Deployment(SCRIPTED, tmp_path, "--auth", env={**env, "PORTICO_A2A_CREDENTIAL": key})
        ada = portico(deployment.target, "keys", "create", "ada").stdout.strip()
        config = {"url": f"http://127.0.0.1:{receiver.server_port}/hook"}
        params = {
            "message": {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": "echo told"}]},
            "configuration": {"taskPushNotificationConfig": config, "returnImmediately": True},
        }
        call = {"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": params}
        headers = {**bearer(ada), "a2a-version": "1.0"}
        answer = httpx.post(f"{deployment.url}/a2a", json=call, headers=headers, timeout=30)
        assert "result" in answer.json(), answer.text
        if scope == "deliver":
            await eventually(lambda: "TASK_STATE_COMPLETED" in json.dumps(told), 30)
        else:
            words = "PORTICO_A2A_CREDENTIAL must be a key with the scope deliver"
            await eventually(lambda: words in deployment.log.read_text(), 30)
            await asyncio.sleep(0)
            assert told == []
    finally:
        deployment.stop()
        receiver.shutdown()
        thread.join()
        receiver.server_close()
