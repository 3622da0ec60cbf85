"""IPython in a sandbox: without own files, terminal and colours; output becomes events."""

import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from IPython.core.application import ProfileDir
from IPython.core.compilerop import CachingCompiler
from IPython.core.displayhook import DisplayHook
from IPython.core.displaypub import DisplayPublisher
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.text import LSString, SList
from traitlets.config import Config

from . import commands, tracebacks

Emit = Callable[[dict[str, Any], str], None]
_FOLDER: Final = "/tmp/.ipython"  # noqa: S108  created when something is stored in it
_CONFIG: Final = {
    "InteractiveShell": {"colors": "nocolor", "autoindent": False, "history_length": 0},
    "HistoryManager": {"enabled": False, "hist_file": ":memory:"},  # no database and no thread
}
# These show the error of the cell itself, which the kernel reports in its own way.
_OF_THE_CELL: Final = frozenset({"run_code", "run_ast_nodes", "run_cell_async", "_run_cell"})


class _Compiler(CachingCompiler):
    def get_code_name(self, raw_code: str, transformed_code: str, number: int) -> str:
        return f"<cell {number}>"


class _Hook(DisplayHook):
    def write_output_prompt(self) -> None:
        pass

    def write_format_data(self, format_dict: dict[str, Any], md_dict: Any = None) -> None:
        self.shell.emit(format_dict, "result")

    def log_output(self, format_dict: dict[str, Any]) -> None:
        if "text/plain" in format_dict:
            self.shell.history_manager.output_hist_reprs[self.prompt_count] = format_dict["text/plain"]


class _Publisher(DisplayPublisher):
    def _setup_execution_tracking(self) -> None:
        """Keeps no copies of displayed objects, so it registers no events."""

    def publish(self, data: dict[str, Any], metadata: Any = None, *_: Any, **_options: Any) -> None:
        self._validate_data(data, metadata)
        self.shell.emit(data, "display")

    def clear_output(self, wait: bool = False) -> None:
        """Does nothing: output that the caller has received cannot be removed."""


class Shell(InteractiveShell):
    """IPython's shell, adapted to a sandbox."""

    compiler_class = _Compiler
    displayhook_class = _Hook
    display_pub_class = _Publisher

    def __init__(self, module: Any, emit: Emit, run: Callable[[Any], Any], hook: Callable[[], None]) -> None:
        self.emit = emit
        self._depth = 0
        super().__init__(user_module=module, config=Config(_CONFIG))
        self.loop_runner = run
        self.set_hook("show_in_pager", _page)
        warnings.filterwarnings("ignore", "To exit: use", UserWarning)
        self.builtin_trap.__enter__()  # for code of imported files, and cells that run without IPython
        register = self.events.register

        def hooked(event: str, function: Callable[..., Any]) -> None:
            register(event, function)
            hook()

        self.events.register = hooked

    def run(self, code: str) -> None:
        """Runs a cell. Raises what the cell raises."""
        result = self.run_cell(code, store_history=True)
        problem = result.error_before_exec or result.error_in_exec
        if problem is not None:
            raise problem

    def run_cell(self, *args: Any, **options: Any) -> Any:
        self._depth += 1
        try:
            return super().run_cell(*args, **options)
        finally:
            self._depth -= 1

    def catch_up(self, count: int, inputs: list[str], shown: list[Any]) -> None:
        """Takes over the history of cells that ran without it; newest inputs and results first."""
        self.execution_count = count
        history = self.history_manager
        history.input_hist_raw[:] = history.input_hist_parsed
        history._i00, history._i, history._ii, history._iii = inputs
        hook = self.displayhook
        hook._, hook.__, hook.___ = shown

    def after_fork(self) -> None:
        """Resets the threads in a forked child, which has none: %%bash and the like start another."""
        scripts = self.magics_manager.registry.get("ScriptMagics") if self.magics_manager else None
        if scripts is not None and scripts.event_loop is not None:
            scripts._event_loop_finalizer.detach()
            scripts.event_loop = None

    def system(self, cmd: str) -> None:
        """Runs `!command`. Its exit code is in `_exit_code`."""
        code = commands.run(self.var_expand(cmd, depth=1))
        self.user_ns["_exit_code"] = code
        if self.system_raise_on_error and code != 0:
            from subprocess import CalledProcessError

            raise CalledProcessError(code, cmd)

    def getoutput(self, cmd: str, split: bool = True, depth: int = 0) -> Any:
        """Runs `names = !command`."""
        told = commands.output(self.var_expand(cmd, depth=depth + 1))
        return SList(told.splitlines()) if split else LSString(told)

    def enable_gui(self, gui: Any = None) -> None:
        """Allows `%matplotlib inline`. Other backends need a screen."""
        if gui:
            raise NotImplementedError(f"no {gui} here: a sandbox has no screen; use %matplotlib inline")

    def ask_exit(self) -> None:
        """`exit` and `quit` end the cell, as they end a program; the kernel and its variables stay."""
        raise SystemExit

    def showtraceback(self, exc_tuple: Any = None, *_: Any, **_options: Any) -> None:
        self._show_problem(exc_tuple, sys._getframe(1).f_code.co_name)

    def showsyntaxerror(self, filename: Any = None, running_compiled_code: bool = False) -> None:
        self._show_problem(None, sys._getframe(1).f_code.co_name)

    def showindentationerror(self) -> None:
        self._show_problem(None, sys._getframe(1).f_code.co_name)

    def _show_problem(self, exc_tuple: Any, caller: str) -> None:
        try:
            _, value, _ = self._get_exc_info(exc_tuple)
        except ValueError:
            print("No traceback available to show.", file=sys.stderr)
            return
        if self._depth > 1 or caller not in _OF_THE_CELL:
            print(tracebacks.describe(value)["traceback"], end="", file=sys.stderr)

    def _format_exception_for_storage(self, exception: BaseException, *_: Any, **_options: Any) -> Any:
        told = tracebacks.describe(exception)
        return {"ename": told["name"], "evalue": told["message"], "traceback": [told["traceback"]]}

    @contextmanager
    def _tee(self, channel: str) -> Iterator[None]:
        """Keeps no copy of the output."""
        yield

    def init_ipython_dir(self, ipython_dir: Any) -> None:
        self.unobserve_all("ipython_dir")  # an observer would create the directory
        self.ipython_dir = _FOLDER

    def init_profile_dir(self, profile_dir: Any) -> None:
        profile = ProfileDir()
        profile.unobserve_all("location")
        profile.location = f"{_FOLDER}/profile_default"
        self.profile_dir = profile

    def init_virtualenv(self) -> None:
        """Does nothing: the sandbox's Python is fixed."""


def _page(_shell: Any, text: Any, *_: Any, **_options: Any) -> None:
    """Prints help, which IPython in a terminal shows in a pager."""
    print(text["text/plain"] if isinstance(text, dict) else text)


def make(module: Any, emit: Emit, run: Callable[[Any], Any], hook: Callable[[], None]) -> Shell:
    """Creates the process's only shell, which get_ipython() and InteractiveShell.instance() return."""
    shell = Shell(module, emit, run, hook)
    for kind in (Shell, InteractiveShell):
        kind._instance = shell
    shell.history_manager.dir_hist[:] = ["/workspace"]
    os.register_at_fork(after_in_child=shell.after_fork)
    return shell
