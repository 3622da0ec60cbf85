"""Control groups: limit, freeze and measure a sandbox as a whole, with version 1 or version 2, if available.

Each owner process makes its groups below one directory named after it, so that a later owner can tell the
groups of live owners from those of dead ones.
"""

import asyncio
import errno
import logging
import os
import secrets
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from portico.sandbox.local.process_owner import ProcessOwner
from portico.sandbox.spec import Limits

log = logging.getLogger(__name__)

_ROOT: Final = Path("/sys/fs/cgroup")
_PREFIX: Final = "portico-"
_PATIENCE: Final = 10.0  # seconds of attempts to remove a group
_BUFFERS: Final = 16  # TCP and UDP buffers may add one sixteenth of the memory limit, or _LEAST_BUFFERS:
_LEAST_BUFFERS: Final = 8 << 20  # net.ipv4.tcp_mem grants the whole machine a tenth of its memory
_PERIOD: Final = 100_000  # microseconds in which a group may use its CPU quota; the kernel's default


@dataclass(slots=True)
class CgroupHierarchy:
    """The directories where groups can be made, by controller; in version 2 all are the same. Empty: none."""

    controllers: dict[str, Path] = field(default_factory=dict)
    unified: Path | None = None  # a version 2 tree; it can freeze and kill even without controllers

    @property
    def limits(self) -> frozenset[str]:
        """Names of the resources that groups can limit."""
        names = {"memory": "memory", "pids": "processes", "cpu": "cpus"}
        return frozenset(names[name] for name in self.controllers if name in names)

    def places(self) -> list[Path]:
        """The directories in which each sandbox has a group."""
        return list(dict.fromkeys([*self.controllers.values(), *([self.unified] if self.unified else [])]))


def find(owner: ProcessOwner) -> CgroupHierarchy:
    """Finds where this process can make groups, by making them."""
    found = CgroupHierarchy()
    name = _PREFIX + owner.name
    for controller in ("memory", "pids", "cpu"):
        if (_ROOT / controller).is_dir() and _make(_ROOT / controller / name):
            found.controllers[controller] = _ROOT / controller / name
    unified = _ROOT / "unified" if (_ROOT / "unified").is_dir() else _own_group()
    if unified is not None and (unified / "cgroup.procs").exists() and _make(unified / name):
        found.unified = unified / name
        for controller in ("memory", "pids", "cpu"):
            if controller not in found.controllers and _delegate(unified, name, controller):
                found.controllers[controller] = unified / name
    if found.unified is None and (_ROOT / "freezer").is_dir() and _make(_ROOT / "freezer" / name):
        found.controllers["freezer"] = _ROOT / "freezer" / name  # a version 2 group can always freeze
    return found


def _own_group() -> Path | None:
    """Returns the group of a pure version 2 tree below which groups can be made: the root's, or one delegated
    to this user; None if there is none.
    """
    if not (_ROOT / "cgroup.controllers").exists():
        return None
    if os.geteuid() == 0:
        return _ROOT
    with open("/proc/self/cgroup") as table:
        path = next((line.split("::", 1)[1].strip() for line in table if line.startswith("0::")), "/")
    parent = (_ROOT / path.lstrip("/")).parent  # a group with processes cannot enable controllers below it
    return parent if os.access(parent, os.W_OK) else None


def _make(path: Path) -> bool:
    try:
        path.mkdir(exist_ok=True)
    except OSError:
        return False
    return True


def _delegate(parent: Path, name: str, controller: str) -> bool:
    try:
        for group in (parent, parent / name):
            (group / "cgroup.subtree_control").write_text(f"+{controller}")
    except OSError:
        return False
    return True


class SandboxCgroup:
    """The groups of one sandbox, one per directory. Paths are strings, for speed: a group is made per
    sandbox."""

    def __init__(self, hierarchy: CgroupHierarchy, name: str) -> None:
        self._hierarchy = hierarchy
        self._paths = {str(place): f"{place}/{name}" for place in hierarchy.places()}
        self._unified = None if hierarchy.unified is None else f"{hierarchy.unified}/{name}"
        self.name = name

    def make(self, parent: int | None = None) -> None:
        """Makes the groups. Processes of the user id `parent` may fork children into them. Raises OSError."""
        for path in self._paths.values():
            os.mkdir(path)
        if self._unified is not None and parent is not None:
            os.chown(f"{self._unified}/cgroup.procs", parent, -1)

    def join_descriptors(self) -> tuple[list[int], list[int]]:
        """Returns descriptors by which a new process joins: of a version 2 group, to be forked into, and of
        the task lists of version 1 groups, to write 0 (itself) to. Raises OSError.

        Neither makes the kernel wait. Moving another process takes some 10 ms after a quiet moment, and so
        does making, killing or removing a group.
        """
        with ExitStack() as opened:

            def way(path: str, access: int) -> int:
                fd = os.open(path, access | os.O_CLOEXEC)
                opened.callback(os.close, fd)
                return fd

            births = [way(self._unified, os.O_PATH)] if self._unified is not None else []
            others = (path for path in self._paths.values() if path != self._unified)
            lists = [way(f"{path}/tasks", os.O_WRONLY) for path in others]
            opened.pop_all()
        return births, lists

    def limit(self, limits: Limits) -> None:
        """Sets the resource limits of the groups. Raises OSError."""
        self._write("memory", ("memory.limit_in_bytes", "memory.max"), limits.memory_bytes)
        self._write(
            "memory", ("memory.memsw.limit_in_bytes", "memory.swap.max"), limits.memory_bytes, optional=True
        )
        if self._version1("memory"):  # version 2 counts socket buffers as memory
            buffers = max(_LEAST_BUFFERS, limits.memory_bytes // _BUFFERS)
            _put(f"{self._path('memory')}/memory.kmem.tcp.limit_in_bytes", buffers)
        self._write("pids", ("pids.max", "pids.max"), limits.processes + 1)  # 1: the supervisor
        quota = max(1_000, int(limits.cpus * _PERIOD))
        self._write("cpu", ("cpu.cfs_quota_us", "cpu.max"), quota)

    def attach(self, pid: int) -> None:
        """Moves a process into the groups, which may take some time. Raises OSError."""
        for path in self._paths.values():
            _put(f"{path}/cgroup.procs", pid)

    def freeze(self, frozen: bool) -> bool:
        """Freezes or thaws the group. False if there is no freezer."""
        if self._unified is not None:
            _put(f"{self._unified}/cgroup.freeze", int(frozen))
            return True
        freezer = self._path("freezer")
        if freezer is not None:
            _put(f"{freezer}/freezer.state", "FROZEN" if frozen else "THAWED")
            return True
        return False

    def kill(self) -> None:
        """Kills the processes if the kernel supports it, and lifts the CPU quota: a process that has used up
        its quota would otherwise die only in its next period."""
        with suppress(OSError):
            if self._unified is not None:
                _put(f"{self._unified}/cgroup.kill", 1)
            self._write("cpu", ("cpu.cfs_quota_us", "cpu.max"), -1 if self._version1("cpu") else "max")

    def memory_bytes(self) -> int | None:
        """Returns the memory in use, in bytes; None if unknown."""
        return self._number("memory", ("memory.usage_in_bytes", "memory.current"))

    def kernel_bytes(self) -> int | None:
        """Returns the part of its memory that the kernel uses for it, in bytes."""
        if self._version1("memory"):
            return self._number("memory", ("memory.kmem.usage_in_bytes", ""))
        return self._entry("memory", ("", "memory.stat"), "kernel")

    def memory_kills(self) -> int | None:
        """Returns how many processes the memory limit has killed; None if unknown."""
        return self._entry("memory", ("memory.oom_control", "memory.events"), "oom_kill")

    def cpu_seconds(self) -> float | None:
        """Returns the CPU time used; None if unknown."""
        used = _entry(Path(self._unified, "cpu.stat"), "usage_usec") if self._unified is not None else None
        return used / 1e6 if used is not None else None

    async def remove(self) -> None:
        """Removes the groups, after the last killed processes have ended."""
        busy = [path for path in self._paths.values() if not _rmdir(path)]
        if busy:
            await asyncio.to_thread(_remove, *busy)

    def _path(self, controller: str) -> str | None:
        place = self._hierarchy.controllers.get(controller)
        return None if place is None else self._paths[str(place)]

    def _version1(self, controller: str) -> bool:
        place = self._hierarchy.controllers.get(controller)
        return place is not None and place != self._hierarchy.unified

    def _write(self, controller: str, names: tuple[str, str], value: object, optional: bool = False) -> None:
        path = self._path(controller)
        if path is not None:
            file = f"{path}/{names[0 if self._version1(controller) else 1]}"
            if not optional or os.path.exists(file):
                _put(file, value)

    def _number(self, controller: str, names: tuple[str, str]) -> int | None:
        path = self._path(controller)
        try:
            return int(Path(path, names[not self._version1(controller)]).read_text()) if path else None
        except (OSError, ValueError):
            return None

    def _entry(self, controller: str, names: tuple[str, str], key: str) -> int | None:
        path = self._path(controller)
        return _entry(Path(path, names[not self._version1(controller)]), key) if path else None


class ZygoteCgroup(SandboxCgroup):
    """The groups of one zygote, which limit its memory. In version 2 the zygote must be in a group beside
    those of its sandboxes, because the kernel requires that of a process that forks into a group."""

    def __init__(self, hierarchy: CgroupHierarchy) -> None:
        memory = {name: path for name, path in hierarchy.controllers.items() if name == "memory"}
        super().__init__(CgroupHierarchy(memory, hierarchy.unified), f"zygote-{secrets.token_hex(4)}")

    @property
    def limits_memory(self) -> bool:
        return "memory" in self._hierarchy.controllers

    def take(self, pid: int, memory_bytes: int) -> None:
        """Makes the groups and moves a zygote into them, before it has children. Raises OSError."""
        self.make()
        self.bound(memory_bytes)
        with suppress(OSError):  # some kernels refuse it for groups below others
            self._write("memory", ("memory.swappiness", "memory.swap.max"), 0, optional=True)
        self.attach(pid)

    def bound(self, memory_bytes: int) -> None:
        """Sets the memory limit. Raises OSError."""
        self._write("memory", ("memory.limit_in_bytes", "memory.max"), memory_bytes)


def allow_fork_into(hierarchy: CgroupHierarchy, user: int) -> None:
    """Allows a zygote of a user to fork into the groups of a hierarchy. Raises OSError."""
    if hierarchy.unified is not None:
        os.chown(hierarchy.unified / "cgroup.procs", user, -1)


def _put(path: str, value: object) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, str(value).encode())
    finally:
        os.close(fd)


def _entry(path: Path, key: str) -> int | None:
    try:
        for line in path.read_text().splitlines():
            name, _, value = line.partition(" ")
            if name == key:
                return int(value)
    except (OSError, ValueError):
        pass  # the group is gone
    return None


def _remove(*paths: Path | str) -> None:
    """Removes groups after their killed processes have ended: on a busy machine that may take seconds. Groups
    that remain are left to the next owner's sweep."""
    left: list[Path | str] = list(paths)
    pause, until = 0.0005, time.monotonic() + _PATIENCE
    while left := [path for path in left if not _rmdir(path)]:
        if time.monotonic() > until:
            log.warning("control groups could not be removed, because their processes do not end: %s", left)
            return
        time.sleep(pause)
        pause = min(2 * pause, 0.02)


def _rmdir(path: Path | str) -> bool:
    """Removes a group; False while it contains processes or groups."""
    try:
        os.rmdir(path)
    except FileNotFoundError:
        pass  # it was never made, or was removed before
    except OSError as error:
        if error.errno == errno.EBUSY:
            return False
        log.warning("a control group could not be removed: %s", error)
    return True


def sweep() -> int:
    """Kills the processes and removes the groups of this PID namespace's dead owners; returns the number of
    groups.

    Covers this user's groups; as root, every user's.
    """
    swept: list[Path] = []
    for group in _left():
        pids = _processes(group)
        if pids is None:
            continue  # removed by a concurrent sweep
        swept.append(group)
        for pid in pids:
            with suppress(ProcessLookupError):  # it has ended already
                os.kill(pid, signal.SIGKILL)
        with suppress(OSError):  # there is no freezer, or a concurrent sweep removed the group
            _put(f"{group}/freezer.state", "THAWED")  # frozen processes die when they thaw
    _remove(*swept)
    return len(swept)


def _left() -> Iterator[Path]:
    """Yields the groups of dead owners, inner ones first."""
    tops: list[Path] = []
    for root in [path for path in (_ROOT, *_ROOT.glob("*")) if (path / "cgroup.procs").exists()]:
        with suppress(FileNotFoundError):  # removed by a concurrent sweep
            tops += root.glob(_PREFIX + "*")
    for top in tops:
        owner = ProcessOwner.parse(top.name.removeprefix(_PREFIX))
        if owner is None or not owner.ended():
            continue
        with suppress(FileNotFoundError):
            if os.geteuid() in (0, top.stat().st_uid):
                yield from [*(child for child in top.iterdir() if child.is_dir()), top]


def _processes(group: Path) -> list[int] | None:
    """Returns the processes of a group; None if it is gone. The kernel reports ENODEV for a group that is
    removed during the read."""
    try:
        pids = [int(pid) for pid in (group / "cgroup.procs").read_text().split()]
        return [pid for pid in pids if pid]  # 0 is a process that this PID namespace does not see
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENODEV):
            raise
        return None


def remove_own_groups(hierarchy: CgroupHierarchy) -> None:
    """Removes this owner's directories, unless another backend of this process has groups there."""
    for place in hierarchy.places():
        with suppress(FileNotFoundError):  # another backend removed it
            if not any(child.is_dir() for child in place.iterdir()):
                _remove(place)
