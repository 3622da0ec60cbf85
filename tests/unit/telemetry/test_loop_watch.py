"""Code that holds the event loop up is named; what only keeps it busy is not."""

import asyncio
import contextvars
import logging
import os
import re
import sys
import time
from collections.abc import AsyncIterator

import pytest

from portico.telemetry import ids, loop_watch
from portico.telemetry.loop_watch import LoopWatch

BEAT = 0.02
BLOCKED = 0.2


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_watch, "BEAT_SECONDS", BEAT)
    monkeypatch.setattr(loop_watch, "BLOCKED_SECONDS", BLOCKED)


@pytest.fixture
async def watch(caplog: pytest.LogCaptureFixture) -> AsyncIterator[LoopWatch]:
    caplog.set_level(logging.WARNING, "portico.telemetry.loop_watch")
    watch = LoopWatch()
    watch.start()
    await asyncio.sleep(3 * BEAT)
    yield watch
    watch.stop()


async def block(seconds: float) -> None:
    time.sleep(seconds)


async def as_agent(agent: str, run_id: str, seconds: float) -> None:
    """As a run has it, in a task that the agent starts."""
    ids.agent.set(agent)
    ids.run_id.set(run_id)
    await asyncio.create_task(block(seconds))
    await asyncio.sleep(10 * BEAT)


def reports(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [one.getMessage() for one in caplog.records if "has been held up" in one.getMessage()]


@pytest.mark.usefixtures("watch")
async def test_agent_and_stack_are_named_once_and_then_after_twice_as_long(
    caplog: pytest.LogCaptureFixture,
) -> None:
    await asyncio.create_task(as_agent("sleepy", "resp_1", 6 * BLOCKED))
    said = reports(caplog)
    assert len(said) == 3  # after 1, 2 and 4 times that long
    assert all("agent 'sleepy'" in one and "time.sleep(seconds)" in one for one in said)
    assert "goes on after about" in caplog.records[-1].getMessage()


@pytest.mark.usefixtures("watch")
async def test_the_line_has_the_ids_of_the_run(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[str] = []

    class Ids(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            seen.append(ids.run_id.get())
            return True

    loop_watch.log.addFilter(one := Ids())
    try:
        await asyncio.create_task(as_agent("sleepy", "resp_1", 1.5 * BLOCKED))
    finally:
        loop_watch.log.removeFilter(one)
    assert seen[0] == "resp_1"


@pytest.mark.usefixtures("watch")
async def test_an_agent_that_blocks_again_and_again_fills_no_log(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(4):
        await asyncio.create_task(as_agent("sleepy", "resp_1", 1.5 * BLOCKED))
    assert len(reports(caplog)) == 1
    await asyncio.create_task(as_agent("other", "resp_2", 1.5 * BLOCKED))
    assert len(reports(caplog)) == 2
    await asyncio.create_task(as_agent("sleepy", "resp_1", 10 * BLOCKED))
    assert "agent 'sleepy'" in reports(caplog)[2]


@pytest.mark.usefixtures("watch")
async def test_a_callback_of_no_task_is_told_by_its_stack(caplog: pytest.LogCaptureFixture) -> None:
    asyncio.get_running_loop().call_soon(time.sleep, 1.5 * BLOCKED, context=contextvars.Context())
    await asyncio.sleep(10 * BEAT)
    assert len(reports(caplog)) == 1
    assert "code of no agent" in reports(caplog)[0]


@pytest.mark.usefixtures("watch")
async def test_tasks_that_take_turns_are_not_to_blame(caplog: pytest.LogCaptureFixture) -> None:
    async def short() -> None:
        time.sleep(BEAT)

    await asyncio.gather(*(short() for _ in range(int(3 * BLOCKED / BEAT))))
    assert reports(caplog) == []


@pytest.mark.usefixtures("watch")
async def test_code_that_lets_no_thread_run_is_named_too(caplog: pytest.LogCaptureFixture) -> None:
    async def greedy() -> None:
        ids.agent.set("greedy")
        re.match(r"(a+)+b", "a" * 25)  # one call, which computes for a second and lets go of nothing
        await asyncio.sleep(10 * BEAT)

    await asyncio.create_task(greedy())
    assert "agent 'greedy'" in reports(caplog)[0]
    assert "in greedy" in reports(caplog)[0]


@pytest.mark.usefixtures("watch")
async def test_a_process_that_was_stopped_did_not_block(caplog: pytest.LogCaptureFixture) -> None:
    stopped = "import os, signal, sys, time; pid = int(sys.argv[1]); os.kill(pid, signal.SIGSTOP)\n"
    stopped += f"time.sleep({5 * BLOCKED}); os.kill(pid, signal.SIGCONT)"
    process = await asyncio.create_subprocess_exec(sys.executable, "-S", "-c", stopped, str(os.getpid()))
    await process.wait()
    await asyncio.sleep(10 * BEAT)
    assert reports(caplog) == []
