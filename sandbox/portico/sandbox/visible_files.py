"""Determines which files of this machine a sandbox sees if it runs this machine's own programs.

It sees the system's files, and those of the Python environment that an import or a command needs. It does not
see the directory that contains the environment: that is often a project, with its settings and data.
"""

import os
import sys
import sysconfig
from collections.abc import Iterable, Mapping
from typing import Final

from portico.sandbox import errors
from portico.sandbox.inside.root import MASKED, SYSTEM

# Where a sandbox has a file system of its own instead of the machine's.
_OWN: Final = ("/workspace", "/tmp", "/var/tmp", "/dev/shm")  # noqa: S108


def base() -> list[str]:
    """Returns the paths of the installed Python: programs, standard library, and shared libraries."""
    prefixes = _spellings(sys.base_prefix, sys.base_exec_prefix)
    return _shown(f"{prefix}/{name}" for prefix in prefixes for name in ("bin", "lib", "lib64"))


def environment() -> list[str]:
    """Returns the paths of `base`, and of the virtual environment's programs and packages."""
    paths = base()
    version = os.path.basename(sysconfig.get_path("platstdlib"))  # python3.11
    if sys.prefix != sys.base_prefix:
        for prefix in _spellings(sys.prefix, sys.exec_prefix):
            names = ["bin", "pyvenv.cfg", f"lib/{version}"]
            names.append("lib64" if os.path.islink(f"{prefix}/lib64") else f"lib64/{version}")
            paths += [f"{prefix}/{name}" for name in names]
    return _shown([*paths, *(sysconfig.get_path(name) for name in ("purelib", "platlib"))])


def is_covered(paths: Iterable[str]) -> str:
    """Returns the first path that a sandbox's own file system hides; empty if there is none."""
    return next((path for path in paths if any(_is_below(path, own) for own in _OWN)), "")


def without_packages() -> str:
    """Returns why code in a sandbox cannot import the packages of this environment; empty if it can."""
    path = is_covered(environment())
    if not path:
        return ""
    return f"{path} is where a sandbox has a directory of its own; move the Python environment elsewhere"


def check(private: Mapping[str, str], root: str = "/") -> None:
    """Checks that no private path is visible. `private` maps descriptions to paths. Raises
    BackendUnavailable."""
    shown = [os.path.realpath(path) for path in ((*SYSTEM, *environment()) if root == "/" else (root,))]
    for what, path in private.items():
        real = os.path.realpath(path)
        if root == "/" and any(_is_below(real, masked) for masked in MASKED):
            continue
        for place in shown:
            if _is_below(real, place):
                raise errors.BackendUnavailable(
                    f"{what}, {path}, is in {place}, which sandboxes see; move it elsewhere"
                )


def check_targets(targets: Iterable[str]) -> None:
    """Refuses mounts that would hide this Python, which the supervisor runs on. Raises InvalidRequest."""
    shown = environment()
    for target in targets:
        plain = target.rstrip("/")
        if any(_is_below(plain, path) or _is_below(path, plain) for path in shown):
            raise errors.InvalidRequest(f"mounts.target: {target!r} would hide the sandbox's Python")


def _is_below(path: str, place: str) -> bool:
    return path == place or path.startswith(f"{place}/")


def _spellings(*prefixes: str) -> list[str]:
    """Returns the prefixes as given, as in paths of modules, and with links resolved, as programs are
    found."""
    both = (spelling for prefix in prefixes for spelling in (prefix, os.path.realpath(prefix)))
    return list(dict.fromkeys(both))


def _shown(paths: Iterable[str]) -> list[str]:
    """Returns the existing paths, without those inside the system's directories or another path."""
    shown: list[str] = []
    for path in sorted(set(paths)):
        if os.path.exists(path) and not any(_is_below(path, place) for place in (*SYSTEM, *shown)):
            shown.append(path)
    return shown
