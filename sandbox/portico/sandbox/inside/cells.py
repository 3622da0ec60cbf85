"""Runs cells as notebooks do: plain Python directly, other cells by IPython.

Both leave the same names behind: In, Out, _ and the others. From the first cell on that contains a magic, a
shell command or a question mark, or whose libraries register IPython hooks, IPython runs all cells.
"""

import _thread
import ast
import builtins
import importlib
import importlib.util
import io
import keyword
import linecache
import re
import sys
import tokenize
import types
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from . import display, loops, magics

if TYPE_CHECKING:
    from .shell import Shell

_AWAIT: Final = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
_PARSE: Final = _AWAIT | ast.PyCF_ONLY_AST
_COROUTINE: Final = 0x80  # CO_COROUTINE: the code has a top-level await
_SCALARS: Final = frozenset({bool, bytes, complex, float, int, str, type(None)})
_ROWS: Final = frozenset({dict, list, tuple})
_FEW: Final = 30
_LINE: Final = 75  # characters
_HEAD: Final = re.compile(r"\s*([^\W\d]\w*)")
_MENTIONS: Final = re.compile(r"[Ii][Pp]ython|In \[|__future__")  # code that IPython handles specially
_OF_A_CELL: Final = re.compile(r"_(i*|i?\d+)")
_UNDERS: Final = ("_", "__", "___")
_EXITS: Final = frozenset({"exit", "quit"})
_NO_CODE: Final = {
    tokenize.ENDMARKER, tokenize.NL, tokenize.NEWLINE, tokenize.COMMENT, tokenize.INDENT, tokenize.DEDENT,
}  # fmt: skip
_CACHE: Final = 1_000  # results kept in Out
_MISSING: Final = "get_ipython: this sandbox's Python has no IPython"


class Cells:
    """Runs cells in the namespace of `__main__` and keeps their history."""

    def __init__(self, emit: Callable[[dict[str, Any], str], None]) -> None:
        self._emit = emit
        self._module = types.ModuleType("__main__")
        self.names = self._module.__dict__
        self.names["__builtins__"] = builtins
        self.loop: loops.KernelLoop | None = None
        self.shell: Shell | None = None
        self.has_shell = False  # reading `shell` itself would write to its page (reference count)
        self._making = False
        self._lock = _thread.RLock()
        self._ih: list[str] = []
        self._oh: dict[int, Any] = {}
        self.forget()

    def forget(self) -> None:
        """Resets the history, as if no cell had been run."""
        for name in [name for name in self.names if _OF_A_CELL.fullmatch(name)]:
            del self.names[name]
        self.count = 0
        self._code = ""
        self._by_ipython = self._caught_up = False
        self._shown: list[Any] = [""] * 3  # the latest results, newest first
        self._named: list[Any] | None = None  # those that are called _, __ and ___
        self._ih[:] = [""]
        self._oh.clear()
        self.names.update({"In": self._ih, "_ih": self._ih, "Out": self._oh, "_oh": self._oh})
        self.names.update(dict.fromkeys(_UNDERS, ""))
        linecache.cache.clear()

    def open(self) -> None:
        """Installs the hooks for displaying results in this process."""
        self.be_main()
        sys.displayhook = self._show
        if not self.has_shell:
            vars(builtins).update({"display": self._display, "get_ipython": self._get_ipython})
            sys.meta_path.insert(0, _Watcher(self._imported))

    def adopt(self, shell: "Shell | None") -> None:
        """Sets the shell that runs cells from now on."""
        self.shell, self.has_shell = shell, shell is not None

    def be_main(self) -> None:
        """Makes its module `__main__`."""
        if sys.modules.get("__main__") is not self._module:  # avoids a write: the page may be shared
            sys.modules["__main__"] = self._module

    def run(self, code: str) -> None:
        """Runs a cell. Raises whatever the cell raises."""
        if not code or code.isspace():
            return
        if self.loop is not None:
            self.loop.current()
        elif "asyncio" in code:
            self._make_loop()
        if (self._by_ipython or _MENTIONS.search(code)) and self.load():
            self._run_by_ipython(code)
            return
        name, tree, last = f"<cell {self.count + 1}>", None, None
        try:
            tree = compile(code, name, "exec", _PARSE, dont_inherit=True)
            last = tree.body[-1] if tree.body else None
            special = isinstance(last, ast.Expr) and last.lineno == 1 and self._may_be_magic(code)
        except SyntaxError:
            special = True
        if special and self.load():
            self._run_by_ipython(code)
            return
        self._begin(code, name)
        if tree is None:
            tree = compile(magics.translate(code), name, "exec", _PARSE, dont_inherit=True)
            last = tree.body[-1]
        if isinstance(last, ast.Expr):
            tree.body.pop()
            if tree.body:
                self._evaluate(compile(tree, name, "exec", _AWAIT, dont_inherit=True))
            tree = ast.Interactive([last])
            self._evaluate(compile(tree, name, "single", _AWAIT, dont_inherit=True))
        else:
            self._evaluate(compile(tree, name, "exec", _AWAIT, dont_inherit=True))

    def load(self) -> bool:
        """Creates IPython's shell, if IPython is installed; a zygote creates it once for all sandboxes.
        Returns whether there is one."""
        if self.shell is None:
            with self._lock:
                if self.shell is None and importlib.util.find_spec("IPython") is not None:
                    self._make_shell()
        return self.shell is not None

    def _imported(self) -> None:
        """Creates the shell after a cell has imported IPython, which expects one."""
        if self._lock.acquire(blocking=False):  # otherwise another thread is creating it
            try:
                if self.shell is None and not self._making:
                    self._make_shell()
            finally:
                self._lock.release()

    def _make_shell(self) -> None:
        self._making, main, names = True, sys.modules.get("__main__"), dict(self.names)
        made = importlib.import_module(f"{__package__}.shell")
        shell = made.make(self._module, self._emit, self._run_coroutine, self.hook)
        self.adopt(shell)
        if main is not None:
            sys.modules["__main__"] = main
        history = shell.history_manager
        history.input_hist_parsed, history.output_hist = self._ih, self._oh
        mine = {"In": self._ih, "_ih": self._ih, "Out": self._oh, "_oh": self._oh}
        shell.user_ns_hidden.update(mine)  # %who omits objects that existed before
        self.names.update({**names, **mine})

    def _run_by_ipython(self, code: str) -> None:
        assert self.shell is not None
        if not self._caught_up:
            self._by_ipython = self._caught_up = True
            self._name_history()
            assert self._named is not None
            inputs = [*reversed(self._ih[-4:]), "", "", ""]
            self.shell.catch_up(self.count + 1, inputs[:4], self._named)
        try:
            self.shell.run(code)
        finally:
            self.count = self.shell.execution_count - 1

    def hook(self) -> None:
        """Makes IPython run all further cells, because a library registered a hook to run before or after
        each."""
        self._by_ipython = True

    def _may_be_magic(self, code: str) -> bool:
        """Whether a line is valid Python but may be a magic, as `ls`, `cd ..` or `exit`: its first name is
        undefined."""
        head = _HEAD.match(code)
        if head is None or "\n" in code.strip():
            return False
        word = head[1]
        return word in _EXITS or not (word in self.names or word in vars(builtins) or keyword.iskeyword(word))

    def _begin(self, code: str, name: str) -> None:
        self.count += 1
        self._code = code
        linecache.cache[name] = (len(code), None, code.splitlines(keepends=True), name)
        self._ih.append(code.strip("\n"))
        if self._named is not None or "_" in code:
            self._name_history()

    def _name_history(self) -> None:
        """Sets the names of the last inputs and results. Until a cell contains a `_`, none could refer to
        them."""
        names, count = self.names, self.count
        if self._named is None:
            names |= {f"_i{number}": text for number, text in enumerate(self._ih) if 0 < number < count}
            names |= {f"_{number}": result for number, result in self._oh.items()}
            self._named = [""] * 3
        before = ["", "", "", *self._ih[max(0, count - 3) : count]]
        names |= {"_i": before[-1], "_ii": before[-2], "_iii": before[-3]}
        if count:
            names[f"_i{count}"] = self._ih[-1]
        usual = "_" not in vars(builtins)
        for under, named in zip(_UNDERS, self._named, strict=True):
            usual = usual and names.get(under, named) is named  # not reassigned by a cell
        if usual:
            names.update(zip(_UNDERS, self._shown, strict=True))
            self._named = self._shown
        names.pop("__warningregistry__", None)  # so that a repeated cell warns again

    def _evaluate(self, code: types.CodeType) -> None:
        if code.co_flags & _COROUTINE:
            self._run_coroutine(types.FunctionType(code, self.names)())
        else:
            exec(code, self.names)  # noqa: S102  a kernel's purpose

    def _run_coroutine(self, work: Any) -> Any:
        return (self.loop or self._make_loop()).run(work)

    def _make_loop(self) -> loops.KernelLoop:
        self.loop = loops.KernelLoop()
        self.loop.current()
        return self.loop

    def _show(self, value: Any) -> None:
        if value is None or (";" in self._code and _is_quiet(self._code)):
            return
        if type(value) in _SCALARS or _is_short(value):
            data = {"text/plain": repr(value)}
        elif self.load():
            assert self.shell is not None
            data = self.shell.display_formatter.format(value)[0]
        else:
            data = display.bundle(value)
        if value is not self._oh:
            if len(self._oh) >= _CACHE:
                self._drop_results()
            self._oh[self.count] = value
            self._shown = [value, *self._shown[:2]]
            if self._named is not None:
                self.names[f"_{self.count}"] = value
                self._name_history()
        if data:
            self._emit(data, "result")

    def _drop_results(self) -> None:
        for number in sorted(self._oh)[: _CACHE // 5]:
            del self._oh[number]
            self.names.pop(f"_{number}", None)

    def _display(self, *values: Any, **options: Any) -> Any:
        """The builtin `display`, until IPython provides its own."""
        if self.load():
            return vars(builtins)["display"](*values, **options)
        for value in values:
            self._emit(display.bundle(value), "display")
        return None

    def _get_ipython(self) -> Any:
        if not self.load():
            raise NameError(_MISSING)
        return self.shell


class _Watcher:
    """An import hook that creates the shell as soon as IPython is imported."""

    def __init__(self, imported: Callable[[], None]) -> None:
        self._imported = imported

    def find_spec(self, name: str, _path: Any = None, _target: Any = None) -> Any:
        if name != "IPython":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module

            def run_and_load(module: types.ModuleType) -> None:
                run(module)
                self._imported()

            spec.loader.exec_module = run_and_load  # type: ignore[method-assign]
        return spec


def _is_short(value: Any) -> bool:
    """Whether IPython would display a list, tuple or dictionary on one line, as Python does."""
    kind = type(value)
    if kind not in _ROWS or len(value) > _FEW:
        return False
    parts = [*value, *value.values()] if kind is dict else value
    return all(type(part) in _SCALARS for part in parts) and len(repr(value)) < _LINE


def _is_quiet(code: str) -> bool:
    """Whether a cell ends with a semicolon, apart from comments."""
    last = ""
    for token in tokenize.generate_tokens(io.StringIO(code).readline):
        if token.type not in _NO_CODE:
            last = token.string
    return last == ";"
