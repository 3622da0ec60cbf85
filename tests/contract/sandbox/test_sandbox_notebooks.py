"""Cells of notebooks have the same output, results, errors and names as in a real IPython."""

import asyncio
import json
import os
import re
import subprocess
import sys
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from support import ipython

from portico.sandbox import errors
from portico.sandbox.backend import Backend
from portico.sandbox.events import CellResult, Stdout
from portico.sandbox.handle.sandbox_handle import SandboxHandle

# All cells run in one kernel, so each sees the names that earlier cells defined.
CELLS = [
    "1 + 1",
    "x = 3\nx",
    "'text'",
    "x; # not shown",
    "x  # ;",
    "print(_, __, ___)",
    "_i, _ii, _iii",
    "_2 + Out[2]",
    "None",
    "_ = 'mine'\n5",
    "_",
    "del _",
    "6",
    "_",
    "def f():\n    return x * 2\nf()",
    "for n in range(2): n",
    "import math; math.pi",
    "{'b': [1] * 3, 'a': {3, 1, 2}, 'long': ['word' * 5] * 9}",
    "list(range(1200))[:3], set('cab')",
    "class Rich:\n    def _repr_html_(self): return '<b>'\n    def __repr__(self): return 'R'\nRich()",
    "display(Rich(), 7)",
    "display('once', raw=False)\n'result'",
    "lambda: 0;",
    "1 / 0",
    "raise ValueError('no')",
    "def broken(:",
    "raise SystemExit(3)",
    "return 5",
    "y = 1\nyield y",
    "import asyncio\nawait asyncio.sleep(0, 'awaited')",
    "async def g():\n    yield 1\n[i async for i in g()]",
    "print(len(In), sorted(Out))",
    "  indented = 1\n  indented",
    "\n\nx + 1",
    ">>> x + 2\n",
    "In [5]: x + 3",
    "%time x",
    "!echo {x} $x $HOME{x}",
    "!exit 3",
    "_exit_code",
    "files = !printf 'a\\nb\\n'\nfiles",
    "files.n, files[0], type(files).__name__",
    "for name in ['p', 'q']:\n    !echo {name}",
    "%%bash\necho out\necho err >&2",
    "%%bash\nexit 4",
    "%%sh --out captured\necho caught",
    "captured",
    "%%script cat\nas it is",
    "%%capture kept\nprint('hidden')\n!echo too\ndisplay(1)",
    "kept.stdout.split(), len(kept.outputs)",
    "%%writefile made.py\nfrom_file = 10\nprint('ran', __name__)",
    "%run made.py",
    "from_file",
    "%%writefile -a made.py\n1 / 0",
    "%run made.py",
    "%cd /tmp",
    "%pwd",
    "%cd -q -",
    "%env SOME=thing",
    "%env SOME",
    "import os; os.environ['SOME']",
    "%who",
    "%who_ls int",
    "%nope",
    "%%nope\n1",
    "nope?",
    "x?",
    "?x",
    "%precision 2\nmath.pi",
    "%precision\n",
    "%xmode Plain",
    "%alias say echo said",
    "say it",
    "%macro again 2",
    "again",
    "%history 1-3",
    "%load_ext autoreload\n%autoreload 2",
    "%lsmagic?;",
    "get_ipython().run_line_magic('time', 'pass')",
    "get_ipython() is __import__('IPython').get_ipython()",
    "from IPython.display import HTML, Markdown, JSON, Latex, clear_output\nHTML('<i>')",
    "display(Markdown('# a'), JSON({'a': [1]}), Latex('$x$'))\nclear_output()",
    "display({'text/plain': 'raw', 'text/html': '<u>'}, raw=True)",
    "handle = display('a', display_id=True)\nhandle.update('b')",
    "%reset_selective -f indented",
    "'indented' in globals()",
    "%store\n",
    "ls_is = 1\nls_is",
    "pwd == os.getcwd()",
    "time",
    "a, *b = [1, 2, 3]\na; b",
    "%%time\nt = 5\nt",
    "t",
    "%%timeit -n1 -r1\npass",
    "%system echo sys",
    "!!echo lines",
    "%sx echo sx",
    "x += 1; x",
    "__import__('sys').ps1",
    "from __future__ import annotations",
    "def annotated(a: nonsense): pass\nannotated.__annotations__",
    "%pdef f",
    "%psource f",
    "get_ipython().ast_node_interactivity = 'all'\n1\n2",
    "3\n4",
]
# Replacements of parts that differ between executions, or by design between IPython and a sandbox.
PLAIN = (
    (re.compile(r"<ipython-input-(\d+)-\w+>"), r"<cell \1>"),
    (re.compile(r"\r\n"), "\n"),  # from IPython's terminal; a sandbox's commands have none
    (re.compile(r"\d[\d.e+]* ?(?:s|ms|[uμ]s|ns)\b"), "TIME"),
    (re.compile("\\+-|±"), "±"),
    (re.compile(r".*UserWarning: To exit.*\n.*\n"), ""),
    (re.compile(r"\x1b\[2K\r"), ""),
    (re.compile(r"Traceback \(most recent call last\):\n(?: .*\n)*\w.*\n"), ""),  # tracebacks of %run
)


GONE = """
import os, time
process = '/proc/' + open('pid').read().strip()
for _ in range(100):
    if not os.path.exists(process): break
    time.sleep(.05)
not os.path.exists(process)"""


def plain(text: str) -> str:
    for pattern, replacement in PLAIN:
        text = pattern.sub(replacement, text)
    return text


def real(folder: Path) -> list[dict[str, Any]]:
    """The results of the cells in a real IPython."""
    environment = {"PATH": os.environ["PATH"], "HOME": "/workspace", "SHELL": "/bin/bash", "LANG": "C.UTF-8"}
    environment["IPYTHONDIR"] = str(folder / "ipython")
    told = subprocess.run(
        [sys.executable, ipython.__file__],
        input=json.dumps(CELLS),
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment,
        check=True,
    )
    return [
        one
        | {name: plain(one[name]) for name in ("stdout", "stderr")}
        | {"rich": [[kinds, plain(text), is_result] for kinds, text, is_result in one["rich"]]}
        | {"error": one["error"] and [plain(part) for part in one["error"]]}
        for one in json.loads(told.stdout)
    ]


def ours(result: CellResult) -> dict[str, Any]:
    """The result of a cell in a sandbox, in the same form."""
    assert result.end.failure is None, result
    error = result.end.error
    return {
        "stdout": plain(result.stdout.decode()),
        "stderr": plain(result.stderr.decode()),
        "rich": [
            [sorted(rich.data), rich.data["text/plain"].decode(), rich.is_result] for rich in result.rich
        ],
        "error": error and [error.name, error.message],
        "count": result.end.execution_count,
    }


async def test_cells_bring_what_they_bring_in_a_real_ipython(box: SandboxHandle, tmp_path: Path) -> None:
    for cell, expected in zip(CELLS, await asyncio.to_thread(real, tmp_path), strict=True):
        shown = ours(await box.run_cell(cell))
        assert shown == expected, cell


async def test_commands_stream_and_end_with_the_cell(box: SandboxHandle) -> None:
    for shell in ("!", "%%bash\n"):
        code = f"{shell}echo first; while [ ! -e go ]; do sleep .05; done; echo last"
        async with aclosing(box.stream_cell(code)) as events:
            assert await anext(events) == Stdout(b"first\n")
            await box.files.write("go", b"")
            assert Stdout(b"last\n") in [event async for event in events]
        await box.files.remove("go")
        result = await box.run_cell(f"{shell}echo $$ > pid; exec sleep 50", timeout=1)
        assert isinstance(result.end.failure, errors.SandboxTimeout)
        assert not result.end.failure.kernel_lost
        assert (await box.run_cell(GONE)).rich[0].data["text/plain"] == b"True", shell
    result = await box.run_cell("x = !sleep 50\nprint('on')", timeout=1)
    assert isinstance(result.end.failure, errors.SandboxTimeout)
    assert result.stdout == b""


async def test_tasks_go_on_between_cells(box: SandboxHandle) -> None:
    code = """
import asyncio
async def count():
    for n in range(1000):
        seen.append(n)
        await asyncio.sleep(.01)
seen = []
task = asyncio.create_task(count())"""
    assert (await box.run_cell(code)).ok
    await asyncio.sleep(0.5)
    assert int((await box.run_cell("len(seen)")).rich[0].data["text/plain"]) > 3
    assert (await box.run_cell("await asyncio.sleep(0); task.done()")).rich[0].data["text/plain"] == b"False"
    assert (await box.run_cell("asyncio.run(asyncio.sleep(0, 1))")).rich[0].data["text/plain"] == b"1"
    task = "async def main(): return await asyncio.gather(asyncio.sleep(0, 1), asyncio.sleep(0, 2))"
    assert (await box.run_cell(f"{task}\nawait main()")).rich[0].data["text/plain"] == b"[1, 2]"
    assert (await box.run_cell("task.cancel()\nawait asyncio.sleep(0)\ntask.cancelled()")).ok
    assert (await box.run_cell("loop = asyncio.get_event_loop(); loop.stop(); loop.close()")).ok
    assert (await box.run_cell("await asyncio.sleep(0, 'again')")).rich[0].data["text/plain"] == b"'again'"
    fork = (
        "async def fork():\n    await asyncio.sleep(.05)\n    if os.fork() == 0: os.environ['A'] = 'child'\n"
    )
    assert (await box.run_cell(f"import os\n{fork}t = asyncio.create_task(fork())")).ok
    await asyncio.sleep(0.3)
    assert (await box.run_cell("os.wait()[1], 'A' in os.environ")).rich[0].data["text/plain"] == b"(0, False)"
    # A task that blocks is interrupted for the next cell, which may then have to be repeated.
    await box.run_cell(
        "import time\nasync def block():\n    time.sleep(60)\nt = asyncio.create_task(block())"
    )
    failure = (await box.run_cell("1", timeout=1)).end.failure
    assert isinstance(failure, errors.SandboxTimeout)
    assert not failure.kernel_lost
    assert (await box.run_cell("1")).ok


async def test_an_interrupted_await_says_where_it_was(box: SandboxHandle) -> None:
    result = await box.run_cell("import asyncio\nawait asyncio.sleep(30)", timeout=0.5)
    assert isinstance(result.end.failure, errors.SandboxTimeout)
    assert result.end.error is not None
    assert 'File "<cell 1>", line 2' in result.end.error.traceback


async def test_a_figure_is_shown_inline(box: SandboxHandle) -> None:
    code = "%matplotlib inline\nimport matplotlib.pyplot as plt\nplt.plot([1, 2]);"
    result = await box.run_cell(code)
    if result.end.error and result.end.error.name == "ModuleNotFoundError":
        pytest.skip("NOT TESTED: this backend's image has no matplotlib")
    assert [rich.data["image/png"][:4] for rich in result.rich] == [b"\x89PNG"]
    assert (await box.run_cell("plt.get_fignums()")).rich[0].data["text/plain"] == b"[]"


async def test_odd_errors_and_counts_end_no_kernel(box: SandboxHandle) -> None:
    await box.run_cell("kept = 1")
    for code in (
        "raise type('E' * 5000, (Exception,), {})",
        "class Odd(Exception):\n    def __str__(self): raise SystemExit\nraise Odd",
        "get_ipython().execution_count = -5",
        "get_ipython().execution_count = 1 << 80",
    ):
        assert (await box.run_cell(code)).end.failure is None, code
    assert (await box.run_cell("kept")).rich[0].data["text/plain"] == b"1"


async def test_nothing_is_left_in_the_workspace(box: SandboxHandle) -> None:
    await box.run_cell("%time 1\n!true\n%history")
    assert await box.files.list_directory(".") == []


async def test_a_checkpoint_has_a_working_ipython(backend: Backend, box: SandboxHandle) -> None:
    if "checkpoints" in backend.capabilities.missing:
        return
    assert (await box.run_cell("%%bash\necho before")).stdout == b"before\n"
    await box.checkpoint("one")
    assert (await box.run_cell("%%bash\necho between")).stdout == b"between\n"
    await box.rollback("one")
    assert (await box.run_cell("%%bash\necho after")).stdout == b"after\n"
