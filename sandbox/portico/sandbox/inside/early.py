"""What a zygote loads before all else: what few sandboxes run lies apart, see apart.py."""

from __future__ import annotations

import importlib

from . import apart, hooks

# Used while modules are loaded, or by errors, or by few calls.
_STANDARD = ("typing", "contextlib", "getpass", "site")
# What all use comes between, because names are kept where they are met first.
_OFTEN = ("ast", "json", f"{__package__}.kernel", f"{__package__}.kernels", f"{__package__}.processes")
_SELDOM = ("archive", "editing", "listing", "packing", "replacing", "unpacking", "watch", "shell")


def _load(*names: str) -> None:
    for name in names:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError:  # there is no IPython
            if name != f"{__package__}.shell":
                raise


with hooks.OnlyWithThreads():
    _load("ast", "re")
    apart.load(lambda: _load(*_STANDARD))
    _load(*_OFTEN)
    apart.load(lambda: _load(*(f"{__package__}.{name}" for name in _SELDOM)))
