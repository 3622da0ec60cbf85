"""Loads the modules of a zygote first; rarely used ones into separate memory, see apart.py."""

from __future__ import annotations

import importlib

from . import apart, hooks

# Used only while modules are loaded, by errors, or by few calls.
_STANDARD = ("typing", "contextlib", "getpass", "site")
# Often used modules come in between, because interned names are stored where they are used first.
_OFTEN = ("ast", "json", f"{__package__}.kernel", f"{__package__}.kernels", f"{__package__}.processes")
_SELDOM = ("archive", "editing", "listing", "packing", "replacing", "unpacking", "watch", "shell")


def _load(*names: str) -> None:
    for name in names:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError:  # IPython is not installed
            if name != f"{__package__}.shell":
                raise


with hooks.OnlyWithThreads():
    _load("ast", "re")
    apart.load(lambda: _load(*_STANDARD))
    _load(*_OFTEN)
    apart.load(lambda: _load(*(f"{__package__}.{name}" for name in _SELDOM)))
