"""Which files of this machine a sandbox sees that runs this machine's own programs.

It sees those of the system, and of the Python environment what an import or a command needs; never the
directory that the environment is in, which is often a project, with its settings and its data.
"""

import os
import sys
import sysconfig
from collections.abc import Iterable, Mapping
from typing import Final

from portico.sandbox import errors
from portico.sandbox.inside.root import MASKED, SYSTEM

# Where a sandbox has a file system of its own, in place of the machine's.
_OWN: Final = ("/workspace", "/tmp", "/var/tmp", "/dev/shm")  # noqa: S108


def base() -> list[str]:
    """The paths of the installed Python: programs, standard library, and the libraries that they load."""
    prefixes = _spellings(sys.base_prefix, sys.base_exec_prefix)
    return _shown(f"{prefix}/{name}" for prefix in prefixes for name in ("bin", "lib", "lib64"))


def environment() -> list[str]:
    """Those, and the paths of the virtual environment's own programs and packages."""
    paths = base()
    version = os.path.basename(sysconfig.get_path("platstdlib"))  # python3.11
    if sys.prefix != sys.base_prefix:
        for prefix in _spellings(sys.prefix, sys.exec_prefix):
            names = ["bin", "pyvenv.cfg", f"lib/{version}"]
            names.append("lib64" if os.path.islink(f"{prefix}/lib64") else f"lib64/{version}")
            paths += [f"{prefix}/{name}" for name in names]
    return _shown([*paths, *(sysconfig.get_path(name) for name in ("purelib", "platlib"))])


def covered(paths: Iterable[str]) -> str:
    """The first of them that a sandbox does not see, because it has something of its own there."""
    return next((path for path in paths if any(_is_below(path, own) for own in _OWN)), "")


def without_packages() -> str:
    """Why code in a sandbox cannot import the packages of this environment; empty if it can."""
    path = covered(environment())
    if not path:
        return ""
    return f"{path} is where a sandbox has a directory of its own; make the Python environment elsewhere"


def check(private: Mapping[str, str], root: str = "/") -> None:
    """Refuses to show paths that are private, each with what it is. Raises BackendUnavailable."""
    shown = [os.path.realpath(path) for path in ((*SYSTEM, *environment()) if root == "/" else (root,))]
    for what, path in private.items():
        real = os.path.realpath(path)
        if root == "/" and any(_is_below(real, masked) for masked in MASKED):
            continue
        for place in shown:
            if _is_below(real, place):
                raise errors.BackendUnavailable(
                    f"{what}, {path}, is in {place}, which sandboxes see; put it elsewhere"
                )


def check_targets(targets: Iterable[str]) -> None:
    """Refuses mounts that would cover this Python, and with it what the agent is made of. Raises
    InvalidRequest."""
    shown = environment()
    for target in targets:
        plain = target.rstrip("/")
        if any(_is_below(plain, path) or _is_below(path, plain) for path in shown):
            raise errors.InvalidRequest(f"mounts.target: not allowed: {target!r}")


def _is_below(path: str, place: str) -> bool:
    return path == place or path.startswith(f"{place}/")


def _spellings(*prefixes: str) -> list[str]:
    """With links on the way, as paths of modules have them, and without, as programs are found."""
    both = (spelling for prefix in prefixes for spelling in (prefix, os.path.realpath(prefix)))
    return list(dict.fromkeys(both))


def _shown(paths: Iterable[str]) -> list[str]:
    """Those that there are, without what the system's or others of them show already."""
    shown: list[str] = []
    for path in sorted(set(paths)):
        if os.path.exists(path) and not any(_is_below(path, place) for place in (*SYSTEM, *shown)):
            shown.append(path)
    return shown
