"""Code that blocks the event loop is reported; a loop that is only busy is not."""

import asyncio
import contextvars
import logging
import os
import re
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from functools import partial

import pytest

from portico.telemetry.log import log_ids
from portico.telemetry.metrics import loop_watch
from portico.telemetry.metrics.loop_watch import LoopWatch

BEAT = 0.02
BLOCKED = 0.2


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_watch, "BEAT_SECONDS", BEAT)
    monkeypatch.setattr(loop_watch, "BLOCKED_SECONDS", BLOCKED)


@pytest.fixture
async def watch(caplog: pytest.LogCaptureFixture) -> AsyncIterator[LoopWatch]:
    caplog.set_level(logging.WARNING, "portico.telemetry.metrics.loop_watch")
    watch = LoopWatch()
    watch.start()
    await asyncio.sleep(3 * BEAT)
    yield watch
    watch.stop()


def block(caplog: pytest.LogCaptureFixture, count: int) -> None:
    """Blocks the loop until there are so many reports, however busy the machine is."""
    until = time.monotonic() + 60
    while len(reports(caplog)) < count and time.monotonic() < until:
        time.sleep(0.005)


async def as_agent(agent: str, run_id: str, blocking: Callable[[], None]) -> None:
    """Blocks the loop in a task that the agent starts, with the agent's context."""
    log_ids.agent.set(agent)
    log_ids.run_id.set(run_id)

    async def work() -> None:
        blocking()

    await asyncio.create_task(work())
    await asyncio.sleep(10 * BEAT)


def reports(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [one.getMessage() for one in caplog.records if "has been blocked" in one.getMessage()]


@pytest.mark.usefixtures("watch")
async def test_agent_and_stack_are_named_once_and_then_after_twice_as_long(
    caplog: pytest.LogCaptureFixture,
) -> None:
    await asyncio.create_task(as_agent("sleepy", "resp_1", partial(block, caplog, 3)))
    said = reports(caplog)
    assert all("agent 'sleepy'" in one and "time.sleep(0.005)" in one for one in said)
    first, second, third = (float(one.split(" for ")[1].split()[0]) for one in said)
    assert first >= BLOCKED
    assert second >= 2 * first
    assert third >= 2 * second
    async with asyncio.timeout(30):
        while "continues after about" not in caplog.records[-1].getMessage():
            await asyncio.sleep(BEAT)


@pytest.mark.usefixtures("watch")
async def test_the_line_has_the_ids_of_the_run(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[str] = []

    class Ids(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            seen.append(log_ids.run_id.get())
            return True

    loop_watch.log.addFilter(one := Ids())
    try:
        await asyncio.create_task(as_agent("sleepy", "resp_1", partial(block, caplog, 1)))
    finally:
        loop_watch.log.removeFilter(one)
    assert seen[0] == "resp_1"


@pytest.mark.usefixtures("watch")
async def test_an_agent_that_blocks_again_and_again_fills_no_log(caplog: pytest.LogCaptureFixture) -> None:
    await asyncio.create_task(as_agent("sleepy", "resp_1", partial(block, caplog, 1)))
    for _ in range(3):
        await asyncio.create_task(as_agent("sleepy", "resp_1", partial(time.sleep, 2 * BLOCKED)))
    assert len(reports(caplog)) == 1
    await asyncio.create_task(as_agent("other", "resp_2", partial(block, caplog, 2)))
    assert "agent 'other'" in reports(caplog)[1]
    await asyncio.create_task(as_agent("sleepy", "resp_1", partial(block, caplog, 3)))
    assert "agent 'sleepy'" in reports(caplog)[2]
    assert float(reports(caplog)[2].split(" for ")[1].split()[0]) >= 8 * BLOCKED


@pytest.mark.usefixtures("watch")
async def test_a_callback_of_no_task_is_told_by_its_stack(caplog: pytest.LogCaptureFixture) -> None:
    asyncio.get_running_loop().call_soon(block, caplog, 1, context=contextvars.Context())
    await asyncio.sleep(10 * BEAT)
    assert "code of an unknown agent" in reports(caplog)[0]
    assert "in block" in reports(caplog)[0]


@pytest.mark.usefixtures("watch")
async def test_tasks_that_take_turns_are_not_to_blame(caplog: pytest.LogCaptureFixture) -> None:
    async def short() -> None:
        time.sleep(BEAT)

    await asyncio.gather(*(short() for _ in range(int(3 * BLOCKED / BEAT))))
    assert reports(caplog) == []


@pytest.mark.usefixtures("watch")
async def test_code_that_lets_no_thread_run_is_named_too(caplog: pytest.LogCaptureFixture) -> None:
    async def greedy() -> None:
        log_ids.agent.set("greedy")
        re.match(
            r"(a+)+b", "a" * 25
        )  # one call that computes for a second without releasing the interpreter's lock
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


def test_a_watch_that_nobody_stops_ends_with_its_loop() -> None:
    watches: list[LoopWatch] = []

    async def begin() -> None:
        watches.append(LoopWatch())
        watches[0].start()

    thread = threading.Thread(target=lambda: asyncio.run(begin()))
    thread.start()
    thread.join()
    watches[0]._thread.join(30)
    assert not watches[0]._thread.is_alive()
