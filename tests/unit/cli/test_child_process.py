"""When a child is restarted, when the supervisor gives up, and when it waits."""

import asyncio
import sys
from pathlib import Path

import pytest

from portico.cli import child_process as children
from portico.cli.child_process import FENCED_OUT, START_ATTEMPTS, ChildProcess

READY = "import os, sys; os.write(int(sys.argv[-1].removeprefix('--ready-fd=')), b'r'); "


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        children, "BACKOFF_SECONDS", tuple(seconds / 1000 for seconds in children.BACKOFF_SECONDS)
    )


@pytest.fixture
def lives(tmp_path: Path) -> Path:
    """Returns a file with one line for each start of a child."""
    return tmp_path / "lives"


def child(lives: Path, code: str, *, patient: bool = False) -> ChildProcess:
    record = f"open({str(lives)!r}, 'a').write('x\\n'); "
    return ChildProcess("child", ["-S", "-c", record + code], stop_seconds=20, patient=patient)


async def ended(one: ChildProcess) -> int:
    return await asyncio.wait_for(one.keep_up(), 60)


async def test_one_that_can_never_start_ends_with_2(lives: Path) -> None:
    assert await ended(child(lives, "raise SystemExit(2)")) == 2
    assert lives.read_text() == "x\n"


@pytest.mark.parametrize("patient", [False, True])
async def test_one_that_another_has_replaced_is_left_so(lives: Path, patient: bool) -> None:
    one = child(lives, READY + f"sys.exit({FENCED_OUT})", patient=patient)
    assert await ended(one) == FENCED_OUT
    assert lives.read_text() == "x\n"


@pytest.mark.parametrize("status", [0, 1, 4])
async def test_one_that_fails_to_start_is_tried_again_after_growing_pauses(
    lives: Path, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also when its start takes longer than the limit for a serving child, and when it ends with status 0."""
    assert await ended(child(lives, f"raise SystemExit({status})")) == 1
    assert lives.read_text() == "x\n" * START_ATTEMPTS
    said = capsys.readouterr().err
    pauses = [float(line.split(" in ")[1].split()[0]) for line in said.splitlines() if "restarting" in line]
    assert pauses == sorted(set(pauses))
    assert "giving up" in said


async def test_one_that_served_is_restarted_whatever_its_status(lives: Path) -> None:
    """A file that is briefly broken while it is edited does not end the command."""
    after_the_first = f"second = open({str(lives)!r}).read() != 'x\\n'; "
    one = child(lives, READY + after_the_first + "import time; second and time.sleep(600); sys.exit(2)")
    keeping = asyncio.create_task(one.keep_up())
    try:
        async with asyncio.timeout(60):
            while not lives.exists() or lives.read_text() != "x\nx\n":
                await asyncio.sleep(0.02)
            await one.ready.wait()
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        await one.stop()


async def test_one_that_is_killed_while_it_serves_is_restarted_at_once(
    lives: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = child(lives, READY + "import time; time.sleep(600)")
    keeping = asyncio.create_task(one.keep_up())
    try:
        async with asyncio.timeout(60):
            for number in (1, 2, 3):
                await one.ready.wait()
                assert lives.read_text() == "x\n" * number
                one.kill()
                while one.ready.is_set():
                    await asyncio.sleep(0.01)
            await one.ready.wait()
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        await one.stop()
    assert capsys.readouterr().err.count("restarting it in 0.0 s") == 3


async def test_a_patient_one_waits_for_a_change(lives: Path) -> None:
    one = child(lives, "raise SystemExit(2)", patient=True)
    keeping = asyncio.create_task(one.keep_up())
    try:
        async with asyncio.timeout(60):
            for number in (1, 2, 3):
                while not lives.exists() or lives.read_text() != "x\n" * number:
                    await asyncio.sleep(0.01)
                await asyncio.sleep(0.2)
                assert lives.read_text() == "x\n" * number
                await one.restart()
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        await one.stop()


@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells children of their parent's death")
async def test_a_child_of_a_supervisor_that_has_ended_does_not_start() -> None:
    """Regardless of the id of the process that adopted it."""
    code = (
        "import os; from portico.cli.child_process import _die_with_parent\n"
        "pid = os.fork()\n"
        "if pid == 0: _die_with_parent({}); os._exit(0)\n"
        "os._exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))"
    )
    for supervisor, status in (("1", 143), ("os.getppid()", 0)):
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", code.format(supervisor))
        assert await process.wait() == status
