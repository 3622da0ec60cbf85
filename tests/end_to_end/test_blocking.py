"""Agents that block: the core's log names the agent, and the core still stops in time."""

import asyncio
import os
import signal
import sys
import urllib.request
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import pytest
from support.deployment import free_port

from portico.client import Client

BLOCKING = Path(__file__).parent / "agents" / "blocking.py"
SECONDS = 90  # on a busy machine; normally it takes 2 to 11 seconds


class Core:
    """A core without gateways, whose agent blocks in one way."""

    def __init__(self, how: str, folder: Path, *options: str) -> None:
        self.how = how
        self.target = f"unix:{folder}/core.sock"
        self._log = folder / "core.log"
        self._command = [sys.executable, "-m", "portico.core", str(BLOCKING), "--store", "memory://"]
        self._command += ["--listen", self.target, "--drain-seconds", "0", *options]

    async def __aenter__(self) -> "Core":
        with self._log.open("wb") as log:
            environment = {**os.environ, "BLOCKING": self.how}
            self.process = await asyncio.create_subprocess_exec(*self._command, stderr=log, env=environment)
        return self

    async def __aexit__(self, *_: object) -> None:
        with suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()

    def log(self) -> str:
        return self._log.read_text()

    async def says(self, words: str) -> None:
        async with asyncio.timeout(SECONDS):
            while words not in self.log():
                assert self.process.returncode is None, self.log()
                await asyncio.sleep(0.05)

    async def ends(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return await asyncio.wait_for(self.process.wait(), SECONDS)


async def test_a_signal_ends_a_core_whatever_blocks_it(tmp_path: Path) -> None:
    """All ways at once, because each takes its time."""
    inits = ("init", "plain init", "init in a thread", "init that is cancelled and goes on")
    queries = ("query", "query in a thread")
    cores: dict[str, Core] = {}
    async with AsyncExitStack() as stack:
        for number, how in enumerate((*inits, *queries, "shutdown")):
            (folder := tmp_path / str(number)).mkdir()
            cores[how] = await stack.enter_async_context(Core(how, folder, "--log-level", "debug"))
        for how in (*queries, "shutdown"):
            await cores[how].says("serving on")
        calls = []
        for how in queries:
            client = await stack.enter_async_context(Client(cores[how].target, timeout=SECONDS))
            calls.append(asyncio.create_task(client.runs.start("go", agent="blocking")))
        await cores["query"].says("has been blocked")
        await cores["init"].says("has been blocked")
        await asyncio.wait(calls[1:])
        statuses = dict(
            zip(cores, await asyncio.gather(*(core.ends() for core in cores.values())), strict=True)
        )
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
    # A core with a blocked event loop cannot stop gracefully.
    held_up = {how for how, status in statuses.items() if status == 1}
    assert held_up == {"init", "query", "shutdown"}, {how: core.log() for how, core in cores.items()}
    assert {statuses[how] for how in statuses.keys() - held_up} == {0}
    for how in held_up:
        assert "SIGTERM was received" in cores[how].log()
        assert "time.sleep(LONG)" in cores[how].log()


@pytest.mark.parametrize("isolation", ["none", "process"])
async def test_an_agent_that_blocks_is_named_with_its_run_and_its_stack(
    tmp_path: Path, isolation: str
) -> None:
    file = tmp_path / "sleepy.py"
    file.write_text(
        "import time\n"
        "from portico.agent import AgentApp\n"
        f"app = AgentApp('sleepy', isolation={isolation!r})\n"
        "@app.query\n"
        "async def query():\n"
        "    time.sleep(2.5)\n"
        "    return 'done'\n",
        encoding="utf-8",
    )
    core = Core("nothing", tmp_path, "--metrics-listen", f"127.0.0.1:{(port := free_port())}")
    core._command[3] = str(file)
    async with core, Client(core.target, timeout=SECONDS) as client:
        await core.says("serving on")
        run = await client.runs.start("go")
        await core.says("continues after about")
        assert "by agent 'sleepy'" in core.log()
        assert f"run_id={run.response.id}" in core.log()
        assert "    time.sleep(2.5)" in core.log()
        assert "in query" in core.log()
        told = await asyncio.to_thread(_fetch, f"http://127.0.0.1:{port}/metrics")
        assert await core.ends() == 0
    late = _buckets(told, "portico_event_loop_lag_seconds_bucket")
    assert late[float("inf")] > 0
    # A worker's agent blocks no core.
    assert (late[float("inf")] > late[1.0]) == (isolation == "none")


def _fetch(url: str) -> str:
    with urllib.request.urlopen(url, timeout=30) as answer:
        text: str = answer.read().decode()
        return text


def _buckets(text: str, name: str) -> dict[float, float]:
    """Returns the cumulative counts of a histogram's buckets."""
    lines = [line for line in text.splitlines() if line.startswith(name)]
    return {float(line.split('le="')[1].split('"')[0]): float(line.rpartition(" ")[2]) for line in lines}
