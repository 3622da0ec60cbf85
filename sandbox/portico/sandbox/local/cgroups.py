"""Control groups: limits for a sandbox as a whole, freezing, and counting. Version 1, version 2, or neither.

Each owner process makes its groups below one directory that carries its name, so that a later owner can
tell the groups of the living from those of the dead.
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

from portico.sandbox.local.process_owner import Owner
from portico.sandbox.spec import Limits

log = logging.getLogger(__name__)

_ROOT: Final = Path("/sys/fs/cgroup")
_PREFIX: Final = "portico-"
_PATIENCE: Final = 10.0  # seconds for which it is tried to remove a group
_BUFFERS: Final = 16  # one part of so many of its memory a sandbox may have once more in TCP and UDP buffers:
_LEAST_BUFFERS: Final = 8 << 20  # net.ipv4.tcp_mem allows the whole machine one of ten
_PERIOD: Final = 100_000  # microseconds, in which a group may use its quota; what the kernel begins with


@dataclass(slots=True)
class Hierarchy:
    """Where groups can be made, by controller; in version 2 all are in one place. Empty: nowhere."""

    controllers: dict[str, Path] = field(default_factory=dict)
    unified: Path | None = None  # a version 2 tree, good for freezing and killing even without controllers

    @property
    def limits(self) -> frozenset[str]:
        names = {"memory": "memory", "pids": "processes", "cpu": "cpus"}
        return frozenset(names[name] for name in self.controllers if name in names)

    def places(self) -> list[Path]:
        return list(dict.fromkeys([*self.controllers.values(), *([self.unified] if self.unified else [])]))


def find(owner: Owner) -> Hierarchy:
    """The groups this process can make, tried out and not guessed."""
    found = Hierarchy()
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
        found.controllers["freezer"] = _ROOT / "freezer" / name  # every version 2 group is one
    return found


def _own_group() -> Path | None:
    """Below which group of a pure version 2 tree new ones can go: the root's, or the one delegated to this
    user.
    """
    if not (_ROOT / "cgroup.controllers").exists():
        return None
    if os.geteuid() == 0:
        return _ROOT
    with open("/proc/self/cgroup") as table:
        path = next((line.split("::", 1)[1].strip() for line in table if line.startswith("0::")), "/")
    parent = (_ROOT / path.lstrip("/")).parent  # a group with processes in it may not have controllers below
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


class Group:
    """The groups of one sandbox, one per place. Paths are plain text: one is made for every sandbox."""

    def __init__(self, hierarchy: Hierarchy, name: str) -> None:
        self._hierarchy = hierarchy
        self._paths = {str(place): f"{place}/{name}" for place in hierarchy.places()}
        self._unified = None if hierarchy.unified is None else f"{hierarchy.unified}/{name}"
        self.name = name

    def make(self, parent: int | None = None) -> None:
        """Makes the groups. Processes of the parent, a user id, may be the parents of what is born in them.
        Raises OSError."""
        for path in self._paths.values():
            os.mkdir(path)
        if self._unified is not None and parent is not None:
            os.chown(f"{self._unified}/cgroup.procs", parent, -1)

    def ways_in(self) -> tuple[list[int], list[int]]:
        """Descriptors by which a new process gets in: of a version 2 group, to be born into, and of version
        1 groups, to write its number to, which is 0 for itself. Raises OSError.

        Neither makes the kernel wait; to move another process in takes some 10 ms after a quiet moment, and
        whoever makes, kills or removes a group waits as long.
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
        """Sets their limits. Raises OSError."""
        self._write("memory", ("memory.limit_in_bytes", "memory.max"), limits.memory_bytes)
        self._write(
            "memory", ("memory.memsw.limit_in_bytes", "memory.swap.max"), limits.memory_bytes, optional=True
        )
        if self._version1("memory"):  # version 2 counts the buffers of sockets as memory
            buffers = max(_LEAST_BUFFERS, limits.memory_bytes // _BUFFERS)
            _put(f"{self._path('memory')}/memory.kmem.tcp.limit_in_bytes", buffers)
        self._write("pids", ("pids.max", "pids.max"), limits.processes + 1)  # the agent is one of them
        quota = max(1_000, int(limits.cpus * _PERIOD))
        self._write("cpu", ("cpu.cfs_quota_us", "cpu.max"), quota)

    def attach(self, pid: int) -> None:
        """Moves a process in, which may take some time. Raises OSError."""
        for path in self._paths.values():
            _put(f"{path}/cgroup.procs", pid)

    def freeze(self, frozen: bool) -> bool:
        """False where there is no freezer."""
        if self._unified is not None:
            _put(f"{self._unified}/cgroup.freeze", int(frozen))
            return True
        freezer = self._path("freezer")
        if freezer is not None:
            _put(f"{freezer}/freezer.state", "FROZEN" if frozen else "THAWED")
            return True
        return False

    def kill(self) -> None:
        """Kills what can be killed from here at once, and lets it die at full speed: what has used up its CPU
        time would otherwise die when its next period begins."""
        with suppress(OSError):
            if self._unified is not None:
                _put(f"{self._unified}/cgroup.kill", 1)
            self._write("cpu", ("cpu.cfs_quota_us", "cpu.max"), -1 if self._version1("cpu") else "max")

    def memory_bytes(self) -> int | None:
        return self._number("memory", ("memory.usage_in_bytes", "memory.current"))

    def kernel_bytes(self) -> int | None:
        """Of its memory, what the kernel keeps for it."""
        if self._version1("memory"):
            return self._number("memory", ("memory.kmem.usage_in_bytes", ""))
        return self._entry("memory", ("", "memory.stat"), "kernel")

    def memory_kills(self) -> int | None:
        return self._entry("memory", ("memory.oom_control", "memory.events"), "oom_kill")

    def cpu_seconds(self) -> float | None:
        used = _entry(Path(self._unified, "cpu.stat"), "usage_usec") if self._unified is not None else None
        return used / 1e6 if used is not None else None

    async def remove(self) -> None:
        """Removes the groups; what is still in them is on its way out."""
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


class Nursery(Group):
    """The groups of one zygote, where its memory has a limit. In version 2 the zygote has to be in one beside
    those of its sandboxes, because the kernel asks that of who gives birth into a group."""

    def __init__(self, hierarchy: Hierarchy) -> None:
        memory = {name: path for name, path in hierarchy.controllers.items() if name == "memory"}
        super().__init__(Hierarchy(memory, hierarchy.unified), f"zygote-{secrets.token_hex(4)}")

    @property
    def limits_memory(self) -> bool:
        return "memory" in self._hierarchy.controllers

    def take(self, pid: int, memory_bytes: int) -> None:
        """Makes the groups and moves a zygote in, before it has children. Raises OSError."""
        self.make()
        self.bound(memory_bytes)
        with suppress(OSError):  # some kernels do not let groups below others choose
            self._write("memory", ("memory.swappiness", "memory.swap.max"), 0, optional=True)
        self.attach(pid)

    def bound(self, memory_bytes: int) -> None:
        """Raises OSError."""
        self._write("memory", ("memory.limit_in_bytes", "memory.max"), memory_bytes)


def admit(hierarchy: Hierarchy, user: int) -> None:
    """Lets a zygote, whose user this is, give birth into the groups of a hierarchy. Raises OSError."""
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
    """Waits for the last processes, which have been killed and are not quite gone: on a machine full of work
    that may take seconds. What still cannot be removed then is left to the sweep of whoever comes next."""
    left: list[Path | str] = list(paths)
    pause, until = 0.0005, time.monotonic() + _PATIENCE
    while left := [path for path in left if not _rmdir(path)]:
        if time.monotonic() > until:
            log.warning("control groups are left behind, with processes that do not die: %s", left)
            return
        time.sleep(pause)
        pause = min(2 * pause, 0.02)


def _rmdir(path: Path | str) -> bool:
    """Removes a group; False while there are processes in it, or groups below it."""
    try:
        os.rmdir(path)
    except FileNotFoundError:
        pass  # it was never made, or this is the second time
    except OSError as error:
        if error.errno == errno.EBUSY:
            return False
        log.warning("a control group is left behind: %s", error)
    return True


def sweep() -> int:
    """Kills and removes what owners of this PID namespace that have ended have left; says how many groups
    there were.

    Those of this user, and of everybody for root.
    """
    swept: list[Path] = []
    for group in _left():
        pids = _processes(group)
        if pids is None:
            continue  # somebody else sweeps too
        swept.append(group)
        for pid in pids:
            with suppress(ProcessLookupError):  # it has ended by itself
                os.kill(pid, signal.SIGKILL)
        with suppress(OSError):  # there is no freezer, or somebody else has swept it
            _put(f"{group}/freezer.state", "THAWED")  # what is frozen dies when it thaws
    _remove(*swept)
    return len(swept)


def _left() -> Iterator[Path]:
    """The groups of dead owners, inner ones first."""
    tops: list[Path] = []
    for root in [path for path in (_ROOT, *_ROOT.glob("*")) if (path / "cgroup.procs").exists()]:
        with suppress(FileNotFoundError):  # somebody else sweeps, too
            tops += root.glob(_PREFIX + "*")
    for top in tops:
        owner = Owner.parse(top.name.removeprefix(_PREFIX))
        if owner is None or not owner.ended():
            continue
        with suppress(FileNotFoundError):
            if os.geteuid() in (0, top.stat().st_uid):
                yield from [*(child for child in top.iterdir() if child.is_dir()), top]


def _processes(group: Path) -> list[int] | None:
    """Its processes; None if it is gone. One that goes while it is read says that there is no such device."""
    try:
        pids = [int(pid) for pid in (group / "cgroup.procs").read_text().split()]
        return [pid for pid in pids if pid]  # 0 is a process that this PID namespace does not see
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENODEV):
            raise
        return None


def leave(hierarchy: Hierarchy) -> None:
    """Removes this owner's own directories at the end, unless another backend of it has groups there."""
    for place in hierarchy.places():
        with suppress(FileNotFoundError):  # another of them leaves, too
            if not any(child.is_dir() for child in place.iterdir()):
                _remove(place)
