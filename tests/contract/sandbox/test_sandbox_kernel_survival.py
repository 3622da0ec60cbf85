"""Cells that damage their own process (broken pipes, forks, closed streams), and reports of its end."""

import asyncio
import re
from pathlib import Path

import pytest

import portico.sandbox
from portico.sandbox import errors
from portico.sandbox.backend import Backend
from portico.sandbox.events import CellError, CellResult
from portico.sandbox.handle.sandbox_handle import SandboxHandle

FOLDER = str(Path(portico.sandbox.__file__).parent)  # on this machine, of the code that runs inside
HOST = re.compile(rf"portico_inside|{re.escape(FOLDER)}|/\.portico|zygote|kernel\.py")


def _error(result: CellResult) -> CellError:
    assert result.end.failure is None
    assert result.end.error is not None
    return result.end.error


async def _text(box: SandboxHandle, code: str) -> str:
    result = await box.run_cell(code)
    assert result.ok, result
    return result.rich[0].data["text/plain"].decode()


BROKEN_PIPES = (
    "import socket\na, b = socket.socketpair()\nb.close()\na.send(b'x')",
    "import subprocess\np = subprocess.Popen(['true'], stdin=subprocess.PIPE, bufsize=0)\n"
    "p.wait()\np.stdin.write(b'x')",
    "import os\nr, w = os.pipe()\nos.close(r)\nos.write(w, b'x')",
)
CLOSED = (
    "import os\nos.close(1)",
    "import os\nos.close(2)",
    "import os\nfor fd in range(3): os.close(fd)",
    "import sys\nsys.stdout.close()",
    "import sys\nsys.stdout = sys.stderr = None",
)
DEATHS = (
    ("import ctypes; ctypes.string_at(0)", -11, "SIGSEGV"),
    ("import os; os.abort()", -6, "SIGABRT"),
    ("import os; os._exit(3)", 3, ""),
)
RAISING = (
    ("while True: pass", 0.3),
    ("import time\ntime.sleep(30)", 0.3),
    ("1 / 0", None),
    ("try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    raise KeyError('x') from e", None),
    ("raise ExceptionGroup('g', [ValueError('v')])", None),
    ("import warnings\nwarnings.warn('careful', stacklevel=2)\n1 / 0", None),
    (
        "import traceback, threading\ntraceback.print_stack()\n"
        "t = threading.Thread(target=lambda: 1 / 0)\nt.start(); t.join()\n1 / 0",
        None,
    ),
)


async def test_a_broken_pipe_is_an_exception_and_names_stay(box: SandboxHandle) -> None:
    await box.run_cell("kept = 1")
    for code in BROKEN_PIPES:
        assert _error(await box.run_cell(code)).name == "BrokenPipeError"
    assert await _text(box, "kept") == "1"


async def test_a_command_of_a_cell_still_ends_by_a_broken_pipe(box: SandboxHandle) -> None:
    command = "yes | head -1; echo ${PIPESTATUS[0]}"
    code = f"import subprocess\nsubprocess.run(['/bin/bash', '-c', {command!r}]);"
    assert (await box.run_cell(code)).stdout == b"y\n141\n"


async def test_a_fork_that_falls_through_ends_with_its_cell(box: SandboxHandle) -> None:
    result = await box.run_cell(
        "import os, time\nprint('once', end='')\npid = os.fork()\nif pid == 0: print(' child')"
    )
    assert result.ok
    code = "_, status = os.waitpid(pid, 0)\nos.waitstatus_to_exitcode(status)"
    assert await _text(box, code) == "0"
    assert [await _text(box, "os.getpid()") for _ in range(6)] == [await _text(box, "os.getpid()")] * 6
    assert result.stdout.count(b"once") == 1


async def test_a_fork_ends_as_a_program_would(box: SandboxHandle) -> None:
    code = """
import os, sys
def end(how):
    pid = os.fork()
    if pid == 0:
        how()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
ends = (lambda: 1 / 0), (lambda: sys.exit(7)), (lambda: sys.exit('bye')), (lambda: display(1) or sys.exit())
[end(how) for how in ends]"""
    result = await box.run_cell(code)
    assert result.rich[-1].data["text/plain"] == b"[1, 7, 1, 0]"
    assert len(result.rich) == 1, "a fork has sent something to the supervisor"
    assert result.stdout == b"1\n"
    assert b"ZeroDivisionError" in result.stderr
    assert b"bye" in result.stderr
    assert not HOST.search(result.stderr.decode())


async def test_closed_streams_are_open_again_in_the_next_cell(box: SandboxHandle) -> None:
    for code in CLOSED:
        assert (await box.run_cell(code)).end.failure is None
        printing = (
            "import os, sys\nprint('out')\nprint('err', file=sys.stderr)\nos.system('cat; echo more')\n1"
        )
        result = await box.run_cell(printing)
        assert result.ok, (code, result)
        assert (result.stdout, result.stderr) == (b"out\nmore\n", b"err\n"), code
        assert result.rich[0].data["text/plain"] == b"1"


@pytest.mark.parametrize("checkpoint", [False, True])
async def test_a_dead_kernel_says_how_it_died(backend: Backend, box: SandboxHandle, checkpoint: bool) -> None:
    if checkpoint and "checkpoints" in backend.capabilities.missing:
        return
    for code, exit_code, signal in DEATHS:
        if checkpoint:
            await box.run_cell("1")
            await box.checkpoint("one")
        failure = (await box.run_cell(code)).end.failure
        assert isinstance(failure, errors.KernelDied)
        assert (failure.exit_code, failure.signal) == (exit_code, signal)
        assert (signal or "exit code 3") in failure.message


async def test_tracebacks_show_cells_and_none_of_the_kernel(box: SandboxHandle) -> None:
    for code, timeout in RAISING:
        result = await box.run_cell(code, timeout=timeout)
        shown = result.end.error.traceback if result.end.error else ""
        assert f'File "<cell {result.end.execution_count}>"' in shown, (code, shown)
        assert not HOST.search(shown), shown
        assert FOLDER not in result.stderr.decode()
    assert not HOST.search(_error(await box.run_cell("def broken(:")).traceback)
    bad = await box.run_cell("class Bad:\n    def __repr__(self): raise ValueError('no')\nBad()")
    assert b"ValueError: no" in bad.stderr
    assert not HOST.search(bad.stderr.decode())


async def test_a_thread_may_display_while_its_cell_runs_and_after(box: SandboxHandle) -> None:
    code = """
import threading, time
def show():
    for n in range(20):
        display(n)
        time.sleep(.02)
thread = threading.Thread(target=show)
thread.start()
for n in range(10):
    display('main')
    time.sleep(.01)"""
    result = await box.run_cell(code)
    assert result.ok
    assert [rich.data["text/plain"] for rich in result.rich].count(b"'main'") == 10
    for _ in range(10):
        assert await _text(box, "1 + 1") == "2"
        await asyncio.sleep(0.02)
