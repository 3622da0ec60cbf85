"""Cells: state, output, rich results, errors, and all ways in which a kernel can end."""

import asyncio
import textwrap
from contextlib import aclosing

import pytest

from portico.sandbox import errors
from portico.sandbox.backend import Backend
from portico.sandbox.events import CellEnd, Rich, Stdout
from portico.sandbox.handle.sandbox_handle import SandboxHandle
from portico.sandbox.spec import Limits, Spec


async def test_variables_live_on(box: SandboxHandle) -> None:
    assert (await box.run_cell("x = 21")).ok
    result = await box.run_cell("x * 2")
    assert [rich.data["text/plain"] for rich in result.rich] == [b"42"]
    assert result.end.execution_count == 2
    assert (await box.run_cell(" \n")).end.execution_count == 2


async def test_output_streams_in_order_and_before_the_end(box: SandboxHandle) -> None:
    code = """
import os, sys, time
print('a')
while not os.path.exists('go'):
    time.sleep(.01)
print('b', file=sys.stderr)
display(1)
print('c')
'last'
"""
    async with aclosing(box.stream_cell(code)) as events:
        first = await anext(events)
        assert first == Stdout(b"a\n")
        await box.files.write("go", b"")
        rest = [event async for event in events]
    assert isinstance(rest[-1], CellEnd)
    shown = [event for event in rest if isinstance(event, Rich)]
    assert [(rich.data["text/plain"], rich.is_result) for rich in shown] == [(b"1", False), (b"'last'", True)]
    assert rest.index(shown[0]) < rest.index(Stdout(b"c\n")) < rest.index(shown[1])


async def test_an_exception_has_its_traceback_and_the_kernel_lives(box: SandboxHandle) -> None:
    await box.run_cell("kept = 1")
    error = (await box.run_cell("def f():\n    1 / 0\nf()")).end.error
    assert error is not None
    assert error.name == "ZeroDivisionError"
    assert "1 / 0" in error.traceback
    assert "kernel.py" not in error.traceback
    assert (await box.run_cell("kept")).ok


@pytest.mark.parametrize(
    "code", ["exit()", "raise KeyboardInterrupt", "def broken(:", "raise BaseException('x')"]
)
async def test_nothing_a_cell_raises_ends_the_kernel(box: SandboxHandle, code: str) -> None:
    assert (await box.run_cell(code)).end.error is not None
    assert (await box.run_cell("1")).ok


async def test_await_shell_lines_and_semicolons(box: SandboxHandle) -> None:
    code = "import asyncio\nawait asyncio.sleep(0, 'done')"
    assert (await box.run_cell(code)).rich[0].data["text/plain"] == b"'done'"
    assert (await box.run_cell("!echo from the shell")).stdout == b"from the shell\n"
    assert (await box.run_cell("%%bash\necho $((6*7))")).stdout == b"42\n"
    assert (await box.run_cell("1;")).rich == []


async def test_rich_objects_come_in_every_form(box: SandboxHandle) -> None:
    code = """
class Both:
    def _repr_html_(self): return '<b>x</b>'
    def _repr_png_(self): return b'\\x89PNG'
    def _repr_json_(self): return {'a': 1}
Both()"""
    data = (await box.run_cell(code)).rich[0].data
    assert data["text/html"] == b"<b>x</b>"
    assert data["image/png"] == b"\x89PNG"
    assert data["application/json"] == b'{"a": 1}'


async def test_a_figure_comes_back_as_an_image(box: SandboxHandle) -> None:
    code = "import matplotlib.pyplot as plt\nplt.plot([1, 2]); plt.show()"
    result = await box.run_cell(code, timeout=20)
    if result.end.error and result.end.error.name == "ModuleNotFoundError":
        pytest.skip("this backend's image has no matplotlib")
    assert result.ok, result
    assert [rich.data["image/png"][:4] for rich in result.rich if "image/png" in rich.data] == [b"\x89PNG"]
    assert result.stderr == b""


@pytest.mark.parametrize(
    "code",
    [
        "import os; os._exit(3)",
        "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
        "import ctypes; ctypes.string_at(0)",
        "import os; os.close(900)",
        "import os; os.write(900, b'\\xff' * 8)",
        "import os; os.write(900, b'\\x00\\x00\\x00\\x02[]')",
    ],
)
async def test_a_kernel_that_dies_says_so_and_is_replaced(box: SandboxHandle, code: str) -> None:
    await box.run_cell("x = 1")
    failure = (await box.run_cell(code)).end.failure
    assert isinstance(failure, errors.KernelDied)
    error = (await box.run_cell("x")).end.error
    assert error is not None
    assert error.name == "NameError"


async def test_a_kernel_that_dies_between_cells_is_told_by_the_next(box: SandboxHandle) -> None:
    code = "import threading, os\nthreading.Timer(.1, lambda: os._exit(1)).start()"
    assert (await box.run_cell(code)).ok
    await asyncio.sleep(0.5)
    assert isinstance((await box.run_cell("1")).end.failure, errors.KernelDied)
    assert (await box.run_cell("1")).ok


async def test_a_cell_that_takes_too_long_is_interrupted_and_variables_stay(box: SandboxHandle) -> None:
    await box.run_cell("x = 1")
    result = await box.run_cell("while True: pass", timeout=0.3)
    assert isinstance(result.end.failure, errors.SandboxTimeout)
    assert not result.end.failure.kernel_lost
    assert (await box.run_cell("x")).ok


@pytest.mark.parametrize(
    "code",
    [
        "import time\nwhile True:\n    try: time.sleep(9)\n    except BaseException: pass",
        "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)",
    ],
)
async def test_a_cell_that_will_not_be_interrupted_is_killed(box: SandboxHandle, code: str) -> None:
    failure = (await box.run_cell(code, timeout=0.3)).end.failure
    assert isinstance(failure, errors.SandboxTimeout)
    assert failure.kernel_lost
    assert (await box.run_cell("1")).ok


async def test_a_cancelled_cell_has_stopped_when_the_caller_goes_on(box: SandboxHandle) -> None:
    task = asyncio.ensure_future(box.run_cell("while True: pass"))
    await asyncio.sleep(0.3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await box.run_cell("1")).ok


async def test_endless_output_ends_with_the_limit_and_the_kernel_lives(backend: Backend) -> None:
    box = await backend.create(Spec(limits=Limits(output_bytes=100_000)))
    await box.run_cell("x = 1")
    result = await box.run_cell("while True: print('y' * 1000)")
    assert isinstance(result.end.failure, errors.LimitExceeded)
    assert result.end.failure.limit == "output"
    assert len(result.stdout) <= 100_000
    assert (await box.run_cell("x")).ok


async def test_a_slow_reader_stops_the_writer_and_loses_nothing(box: SandboxHandle) -> None:
    size = 0
    async with aclosing(box.stream_cell("for n in range(8): print('z' * 1_000_000)")) as events:
        async for event in events:
            if isinstance(event, Stdout):
                size += len(event.data)
                await asyncio.sleep(0.001)
    assert size == 8_000_008


async def test_odd_bytes_arrive_as_they_are(box: SandboxHandle) -> None:
    result = await box.run_cell("import os; os.write(1, bytes(range(256))); print('\\ud800')")
    assert result.stdout.startswith(bytes(range(256)))
    assert (await box.run_cell("input()")).end.error is not None


async def test_random_numbers_differ_between_siblings(backend: Backend) -> None:
    code = "import random, uuid, os\n(random.random(), uuid.uuid4(), os.urandom(4))"
    boxes = [await backend.create(Spec()) for _ in range(2)]
    first, second = [(await box.run_cell(code)).rich[0].data["text/plain"] for box in boxes]
    assert not set(first.decode().strip("()").split(", ")) & set(second.decode().strip("()").split(", "))


async def has_checkpoints(backend: Backend, box: SandboxHandle) -> bool:
    """Return whether the backend has checkpoints; assert that one without them refuses."""
    if "checkpoints" not in backend.capabilities.missing:
        return True
    with pytest.raises(errors.Unsupported):
        await box.checkpoint("one")
    return False


async def test_checkpoint_and_rollback_of_a_live_kernel(backend: Backend, box: SandboxHandle) -> None:
    await box.run_cell("x = 1")
    if not await has_checkpoints(backend, box):
        return
    await box.checkpoint("one")
    await box.run_cell("x = 2")
    await box.checkpoint("two")
    await box.run_cell("x = 3")
    await box.rollback("two")
    assert (await box.run_cell("x")).rich[0].data["text/plain"] == b"2"
    await box.rollback("one")
    assert (await box.run_cell("x")).rich[0].data["text/plain"] == b"1"
    with pytest.raises(errors.SnapshotNotFound):
        await box.rollback("two")
    result = await box.run_cell("while True: pass", timeout=0.3)
    assert isinstance(result.end.failure, errors.SandboxTimeout)
    assert (await box.run_cell("x")).rich[0].data["text/plain"] == b"1"


async def test_without_room_for_a_process_there_is_no_checkpoint_but_a_way_back(
    backend: Backend, box: SandboxHandle
) -> None:
    if not await has_checkpoints(backend, box):
        return
    await box.run_cell("x = 1")
    await box.checkpoint("one")
    fill = """
        import subprocess
        x = 2
        try:
            while True:
                subprocess.Popen(["sleep", "60"])
        except OSError:
            pass
    """
    assert (await box.run_cell(textwrap.dedent(fill))).ok
    with pytest.raises(errors.InvalidRequest, match="no checkpoint"):
        await box.checkpoint("two")
    assert (await box.run_cell("x")).rich[0].data["text/plain"] == b"2"
    await box.rollback("one")
    assert (await box.run_cell("x")).rich[0].data["text/plain"] == b"1"
