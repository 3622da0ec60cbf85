"""Executes cells in a real IPython and reports the result of each: JSON on standard input and output."""

import io
import json
import os
import sys
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

from IPython.core.displayhook import DisplayHook
from IPython.core.displaypub import DisplayPublisher
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config


class _Hook(DisplayHook):
    def write_output_prompt(self) -> None:
        pass

    def write_format_data(self, format_dict: dict[str, Any], md_dict: Any = None) -> None:
        _rich.append((format_dict, True))


class _Publisher(DisplayPublisher):
    def publish(self, data: dict[str, Any], *_: Any, **_options: Any) -> None:
        _rich.append((data, False))


class Real(InteractiveShell):
    """A real IPython shell whose output is captured."""

    displayhook_class = _Hook
    display_pub_class = _Publisher

    def _showtraceback(self, *_: Any) -> None:
        """Does nothing: the test compares the error itself."""

    def show_usage_error(self, exc: Any) -> None:
        """Does nothing, like _showtraceback."""

    def enable_gui(self, gui: Any = None) -> None:
        """Behaves as a notebook does for %matplotlib inline."""


_rich: list[tuple[dict[str, Any], bool]] = []


def run(shell: InteractiveShell, cell: str) -> dict[str, Any]:
    out, err = io.StringIO(), io.StringIO()
    _rich.clear()
    with redirect_stdout(out), redirect_stderr(err):
        result = shell.run_cell(cell, store_history=True)
    problem = result.error_before_exec or result.error_in_exec
    return {
        "stdout": out.getvalue(),
        "stderr": err.getvalue(),
        "rich": [[sorted(data), data.get("text/plain"), is_result] for data, is_result in _rich],
        "error": problem and [type(problem).__name__, str(problem)],
        "count": shell.execution_count - 1,
    }


def main() -> None:
    cells = json.load(sys.stdin)
    sys.stdin = open(os.devnull)  # noqa: SIM115
    shell = Real.instance(
        config=Config({"HistoryManager": {"enabled": False}, "InteractiveShell": {"colors": "nocolor"}}),
        user_ns=None,
    )
    told = json.dumps([run(shell, cell) for cell in cells])
    assert sys.__stdout__ is not None
    sys.__stdout__.write(told)


if __name__ == "__main__":
    main()
