"""Builds bubblewrap's command line: the visible files, and the isolation that code inside cannot undo.

bubblewrap starts with an empty environment, because code inside can read the environment of process 1. It
never runs as the host's root: the host's root would own the files of /proc/sys inside, whatever its id is
there.
"""

import os
import sys
from pathlib import Path
from typing import Final

from portico.sandbox import errors, visible_files
from portico.sandbox.inside.paths import HOME
from portico.sandbox.inside.root import FILES, MASKED, SYSTEM
from portico.sandbox.spec import Spec

CODE: Final = "/.portico"
_BOOT: Final = (
    f"import socket, sys; sys.path.append('{CODE}'); "
    "from portico_inside import agent, kernel, linux, seccomp; "
    "listener = linux.follow([linux.installing_filter(seccomp.program())]); "
    "linux.prctl(linux.PR_SET_DUMPABLE, 0); channel = socket.socket(fileno=int(sys.argv[1])); "
    "kernel.prepare(); agent.become(agent.Agent(), channel, listener)"
)
_PYTHONS: Final = ("usr/local/bin/python3", "usr/bin/python3", "bin/python3")
_OWN: Final = {
    "proc", "sys", "dev", "tmp", "workspace", "run", "mnt", "media", "boot", "lost+found", "root", "home",
}  # fmt: skip
_SHARES: Final = {"/workspace": 13, "/tmp": 2, "/dev/shm": 1}  # noqa: S108  sixteenths of the disk limit


def arguments(program: str, root: Path, code: Path, spec: Spec, info_fd: int) -> list[str]:
    """Returns the command without its last argument, the channel's descriptor. Raises BackendUnavailable."""
    python, files = _files(root)
    if root == Path("/"):
        for path in FILES:
            files += ["--ro-bind", f"{code}{path}", path]
    told = [
        program, "--unshare-all", "--uid", "1000", "--gid", "1000", "--hostname", "sandbox",
        "--die-with-parent", "--new-session", "--as-pid-1", "--cap-drop", "ALL",
        "--info-fd", str(info_fd),
        *files,
        "--proc", "/proc", "--ro-bind", "/proc/sys", "/proc/sys", "--dev", "/dev",
        "--ro-bind", f"{code}/code", CODE,
    ]  # fmt: skip
    for path, share in _SHARES.items():
        told += ["--size", str(spec.limits.disk_bytes * share // 16), "--tmpfs", path]
    if root == Path("/") or not (root / "var").exists():
        told += ["--symlink", "/tmp", "/var/tmp"]  # noqa: S108
    if not any(argument.startswith(f"{HOME}/") for argument in files):  # unless the machine's Python is there
        told += ["--symlink", "/workspace", HOME]
    for mount in spec.mounts:
        path = mount.source if mount.opened is None else mount.opened.path
        told += ["--bind" if mount.writable else "--ro-bind", path, mount.target]
    return [
        *told,
        "--remount-ro",
        "/dev",
        "--remount-ro",
        "/",
        "--chdir",
        "/workspace",
        python,
        "-I",
        "-c",
        _BOOT,
    ]


def _files(root: Path) -> tuple[str, list[str]]:
    """Returns the interpreter's path inside, and the arguments that mount the root's files read-only."""
    if root == Path("/"):
        return _files_of_this_machine()
    python = next((f"/{path}" for path in _PYTHONS if os.path.lexists(root / path)), None)
    if python is None:
        raise errors.BackendUnavailable(f"{root} has no python3, which every sandbox needs")
    told: list[str] = []
    for entry in sorted(root.iterdir()):
        if entry.name in _OWN:
            continue
        if entry.is_symlink():
            told += ["--symlink", os.readlink(entry), f"/{entry.name}"]
        else:
            told += ["--ro-bind", str(entry), f"/{entry.name}"]
    return python, told


def _files_of_this_machine() -> tuple[str, list[str]]:
    """Returns the same for this machine's files: those that the local backend mounts, as far as an
    unprivileged user can reach them."""
    told: list[str] = []
    for path in SYSTEM:
        if os.path.islink(path):
            told += ["--symlink", os.readlink(path), path]
        elif os.path.exists(path):
            told += ["--ro-bind", path, path]
    for path in filter(os.path.isdir, MASKED):
        told += ["--tmpfs", path, "--remount-ro", path]
    # This environment's interpreter, or the one that the environment was made from.
    for python, paths in (
        (sys.executable, visible_files.environment()),
        (os.path.realpath(sys.executable), visible_files.base()),
    ):
        if all(map(_seen, (python, os.path.realpath(python), *paths))):
            for path in paths:
                link = path.endswith("/lib64") and os.path.islink(path)
                told += ["--symlink", os.readlink(path), path] if link else ["--ro-bind", path, path]
            return python, told
    return "/usr/bin/python3", told


def without_packages() -> str:
    """Returns why code inside cannot import the packages of this environment; empty if it can."""
    if _files_of_this_machine()[0] == sys.executable:
        return ""
    return f"not every user may enter {sys.prefix}, or a sandbox has a directory of its own there"


def _seen(path: str) -> bool:
    """Whether every user may reach a path, and no sandbox directory hides it."""
    return all(
        os.stat(folder).st_mode & 0o001 for folder in Path(path).parents
    ) and not visible_files.is_covered([path])
