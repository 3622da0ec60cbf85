"""Executes a program as a notebook does, with `await` at its top level: `python notebook.py PROGRAM`."""

import ast
import asyncio
import inspect
import sys
import types
from pathlib import Path


def run(file: str, module: types.ModuleType) -> None:
    """Executes the file in the module's namespace."""
    module.__file__ = file
    code = compile(Path(file).read_text(), file, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    result = eval(code, vars(module))
    if inspect.iscoroutine(result):
        asyncio.run(result)


if __name__ == "__main__":
    sys.modules["__main__"] = types.ModuleType("__main__")
    run(sys.argv[1], sys.modules["__main__"])
