"""Disclosure of exceptions: with auth, callers get their type and an id, and the log has the text with the
id.
"""

import json
import logging
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.identity import guarded_core
from support.serving import running_core, running_site, settings_in
from support.workers import beside

from portico.agent import AgentApp, AgentError, Context, Workers
from portico.client import Aborted, Client
from portico.core.hosts.base.app_loader import load_apps
from portico.core.hosts.base.error_disclosure import ErrorDisclosure
from portico.core.hosts.worker.worker_host import WorkerHost
from portico.core.server import core_server
from portico.core.settings.core_settings import CoreSettings
from portico.gateways.a2a.app import A2aGateway
from portico.gateways.a2a.settings import A2aSettings
from portico.gateways.http.settings import HttpSettings
from portico.gateways.http.site import Gateway
from portico.gateways.openai.app import OpenAiGateway
from portico.gateways.openai.settings import OpenAiSettings
from portico.gateways.sse.app import SseGateway
from portico.gateways.sse.settings import SseSettings
from portico.telemetry.log.log_setup import JsonFormatter
from portico.v1 import events_pb2

SECRET = "alabaster internals"
QUOTED = re.compile(r"quote error ([0-9a-f]{32}) to the operator")
MESSAGE = {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": "hi"}]}


def broken() -> AgentApp:
    app = AgentApp("broken")

    @app.query
    async def query(msgs: list[Any], context: Context) -> AsyncIterator[str]:
        yield "before"
        if msgs[-1].text == "meant":
            raise AgentError("said on purpose", code="MEANT")
        raise ValueError(SECRET)

    @app.endpoint("/broken")
    async def endpoint() -> str:
        raise ValueError(SECRET)

    @app.endpoint("/breaking")
    async def streaming() -> AsyncIterator[int]:
        yield 1
        raise ValueError(SECRET)

    return app


class Lines(logging.Handler):
    """Lines of a log without content."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(JsonFormatter("core", content=False))
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))

    def of(self, error_id: str) -> str:
        return next(line for line in self.lines if error_id in line)


@pytest.fixture
def log() -> Iterator[Lines]:
    lines = Lines()
    logger = logging.getLogger("portico")
    logger.addHandler(lines)
    yield lines
    logger.removeHandler(lines)


@asynccontextmanager
async def all_gateways(directory: Path) -> AsyncIterator[httpx.AsyncClient]:
    given = settings_in(directory)
    gateways: list[Gateway] = [
        A2aGateway(A2aSettings(**given)),
        OpenAiGateway(OpenAiSettings(**given)),
        SseGateway(SseSettings(**given)),
    ]
    async with (
        running_site(gateways, HttpSettings(**given)) as (url, _),
        httpx.AsyncClient(base_url=url, timeout=20) as http,
    ):
        yield http


async def ended(client: Client, words: str) -> events_pb2.Response:
    """A stored run that has ended."""
    stream = client.runs.query(words)
    async for _ in stream:
        pass
    return (await client.runs.get(stream.run_id)).response


async def everything_told(http: httpx.AsyncClient) -> dict[str, str]:
    """All that each protocol returns of a run whose agent raises, live and afterwards."""
    told: dict[str, str] = {}

    async def ask(method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
        answer = await http.request(method, path, json=body, headers=headers)
        told[f"{method} {path} {len(told)}"] = answer.text
        return answer

    live = await ask("POST", "/process", {"input": "hi"})
    run_id = live.headers["x-run-id"]
    for path in (f"/runs/{run_id}", f"/runs/{run_id}/events", f"/process/task/{run_id}"):
        await ask("GET", path)
    await ask("GET", f"/v1/responses/{run_id}")
    await ask("GET", f"/v1/responses/{run_id}?stream=true")
    await ask("POST", "/v1/responses", {"input": "hi", "model": "broken"})
    await ask("POST", "/v1/responses", {"input": "hi", "model": "broken", "stream": True})
    chat = {"model": "broken", "messages": [{"role": "user", "content": "hi"}]}
    await ask("POST", "/v1/chat/completions", chat)
    await ask("POST", "/v1/chat/completions", {**chat, "stream": True})
    await ask("POST", "/a2a/message:send", {"message": MESSAGE}, **{"a2a-version": "1.0"})
    await ask("POST", "/a2a/message:stream", {"message": MESSAGE}, **{"a2a-version": "1.0"})
    await ask("GET", f"/a2a/tasks/{run_id}", **{"a2a-version": "1.0"})
    for path in ("/broken", "/breaking"):
        await ask("POST", path, {})
    return told


async def test_no_protocol_tells_strangers_the_words(tmp_path: Path, log: Lines) -> None:
    store = tmp_path / "words.db"
    async with (
        guarded_core([broken()], tmp_path, store=f"sqlite:///{store}") as core,
        all_gateways(tmp_path) as http,
    ):
        http.headers["authorization"] = f"Bearer {await core.key('ada')}"
        told = await everything_told(http)
        for request, text in told.items():
            assert SECRET not in text, request
            found = QUOTED.search(text)
            assert found is not None, (request, text)
            assert "ValueError" in text, request
            line = json.loads(log.of(found[1]))
            assert f"ValueError: {SECRET}" in line["exception"]
            assert "Traceback" in line["exception"]
        client = await core.client("ada")
        run = await ended(client, "hi")
        assert run.error.code == "AGENT_UNKNOWN_ERROR"
        assert QUOTED.search(run.error.message)
        with pytest.raises(Aborted) as failed:
            await client.agents.call_endpoint("/broken")
        assert (failed.value.reason, failed.value.metadata["error_type"]) == ("ENDPOINT_FAILED", "ValueError")
        assert SECRET not in str(failed.value)
        # An AgentError and a Rejection are meant for callers.
        assert (await ended(client, "meant")).error.message == "said on purpose"
    for file in tmp_path.glob("words.db*"):
        assert SECRET.encode() not in file.read_bytes()


async def test_a_setting_opens_the_words_to_callers(tmp_path: Path) -> None:
    async with (
        guarded_core([broken()], tmp_path, error_words="callers") as core,
        all_gateways(tmp_path) as http,
    ):
        http.headers["authorization"] = f"Bearer {await core.key('ada')}"
        for request, text in (await everything_told(http)).items():
            assert SECRET in text, request


async def test_callers_get_the_words_while_auth_is_off(tmp_path: Path, log: Lines) -> None:
    async with running_core([broken()], tmp_path), all_gateways(tmp_path) as http:
        for request, text in (await everything_told(http)).items():
            assert SECRET in text, request
    assert "ValueError" in str(log.lines)
    assert SECRET not in str(log.lines)


@pytest.mark.parametrize(
    ("given", "readers"),
    [
        ({}, "callers"),
        ({"listen": ["unix:/tmp/x.sock", "[::1]:1"]}, "callers"),
        ({"auth": True}, "log"),
        ({"listen": ["127.0.0.1:1", "0.0.0.0:1"], "insecure_no_auth": True}, "log"),
        ({"auth": True, "error_words": "callers"}, "callers"),
        ({"error_words": "none"}, "none"),
    ],
)
def test_who_reads_the_words(given: dict[str, Any], readers: str) -> None:
    assert CoreSettings(**given).error_readers == readers


@pytest.mark.parametrize(("readers", "shown"), [("callers", False), ("log", True), ("none", False)])
def test_the_log_has_the_words_where_only_it_should(readers: Any, shown: bool, log: Lines) -> None:
    try:
        try:
            raise KeyError(SECRET)
        except KeyError as cause:
            raise ValueError("sk-0123456789abcdefghij") from cause
    except ValueError as error:
        ErrorDisclosure(readers).text_for_caller(error, "agent %r raised", "a")
    line = log.lines[-1]
    assert (SECRET in line) is shown
    assert "KeyError" in line
    assert "0123456789abcdefghij" not in line  # text that looks like a credential is always removed


def test_an_exception_without_words_is_told_all_the_same() -> None:
    class Silent(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert "cannot be read" in ErrorDisclosure("callers").text_for_caller(Silent(), "it raised")
    assert QUOTED.fullmatch(ErrorDisclosure().text_for_caller(Silent(), "it raised"))


APART = """
from portico.agent import AgentApp

app = AgentApp("apart", isolation="process")

@app.query
async def query(msgs):
    raise ValueError("alabaster " + "internals")

@app.endpoint("/broken")
async def endpoint():
    raise ValueError("alabaster " + "internals")
"""


@pytest.mark.parametrize("readers", ["log", "none", "callers"])
async def test_words_do_not_leave_an_agents_own_process(
    tmp_path: Path, readers: str, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "apart.py"
    file.write_text(APART)
    async with guarded_core(load_apps(str(file)), tmp_path, error_words=readers) as core:
        client = await core.client("ada")
        error = (await ended(client, "hi")).error
        with pytest.raises(Aborted) as failed:
            await client.agents.call_endpoint("/broken")
    logged = capfd.readouterr().err
    for message in (error.message, failed.value.message):
        found = QUOTED.search(message)
        assert (SECRET in message) is (found is None) is (readers == "callers")
        assert found is None or found[1] in logged
    assert "ValueError" in logged
    assert (SECRET in logged) is (readers == "log")


def reporting() -> AgentApp:
    """Reports an error of a model's provider."""
    app = AgentApp("reporting")

    @app.query(framework="openai")
    async def query(msgs: list[Any]) -> AsyncIterator[Any]:
        error = {"code": "model_overloaded", "message": SECRET}
        yield {"object": "chat.completion.chunk", "choices": [], "error": error}

    return app


@pytest.mark.parametrize("place", ["local", "workers"])
async def test_what_a_framework_reports_is_not_told_either(
    tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch, log: Lines
) -> None:
    if place == "workers":
        launch = beside(readers="log")
        monkeypatch.setattr(core_server, "make_host", lambda apps, _, words: WorkerHost(apps, launch, words))
    async with guarded_core([reporting()], tmp_path) as core:
        error = (await ended(await core.client("ada"), "hi")).error
    assert error.code == "model_overloaded"
    found = QUOTED.fullmatch(error.message)
    assert found is not None
    assert SECRET in log.of(found[1])


def falling() -> AgentApp:
    """An agent whose second process cannot be initialised."""
    app = AgentApp("falling", isolation=Workers(count=1, max_runs=1))
    begun: list[int] = []

    @app.init
    async def init() -> None:
        begun.append(1)
        if len(begun) > 1:
            raise ValueError(SECRET)

    @app.query
    async def query(msgs: list[Any]) -> str:
        return "done"

    return app


async def test_an_init_function_in_a_process_keeps_its_words_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: Lines
) -> None:
    monkeypatch.setattr(
        core_server, "make_host", lambda apps, _, words: WorkerHost(apps, beside(readers="log"), words)
    )
    async with guarded_core([falling()], tmp_path) as core:
        client: Client = await core.client("ada")
        assert not (await ended(client, "hi")).HasField("error")
        failed = await ended(client, "hi")
        assert failed.error.code == "agent_crashed"
        assert SECRET not in failed.error.message
        found = QUOTED.search(failed.error.message)
        assert found is not None
        assert SECRET in log.of(found[1])
