"""The file calls of a sandbox. They run inside it, as its user: no path reaches what its own code could
not."""

import os
import stat
import time
from collections.abc import Callable
from typing import Any, Final

from . import archive, editing, listing, paths, replacing, scratch, unpacking, watch, wire
from .calls import Call
from .loop import Loop
from .packing import Packer
from .processes import Processes
from .stillness import Stillness

_TICK_NS: Final = 2_000_000_000  # the coarsest resolution of time stamps of the file systems here


def operations(loop: Loop, processes: Processes) -> dict[str, Callable[[Call, dict[str, Any]], None]]:
    stillness = Stillness()

    def worker(function: Callable[[dict[str, Any]], None]) -> Callable[..., None]:
        def operation(call: Call, request: dict[str, Any]) -> None:
            processes.work(call, request["op"], lambda: function(request))

        return operation

    def unpack(call: Call, request: dict[str, Any]) -> None:
        work = lambda: unpacking.unpack(request)  # noqa: E731
        if not request.get("still"):
            processes.work(call, request["op"], work, True)
            return
        stillness.begin()
        try:
            processes.work(call, request["op"], work, True, then=stillness.end)
        except BaseException:
            stillness.end()
            raise

    return {
        "file.read": _read,
        "file.write": _write,
        "file.stat": _stat,
        "file.list": lambda call, request: listing.start(processes, call, request),
        "file.mkdir": _mkdir,
        "file.move": _move,
        "file.edit": lambda call, request: editing.start(processes, call, request),
        "file.remove": worker(archive.remove),
        "file.search": worker(archive.search),
        "file.pack": Packer(loop, stillness).start,
        "file.unpack": unpack,
        "file.watch": lambda call, request: _watch(loop, call, request),
        "disk": _disk,
        "memory_kills": _memory_kills,
    }


def _watch(loop: Loop, call: Call, request: dict[str, Any]) -> None:
    watch.Watch(loop, call, request)


def _read(call: Call, request: dict[str, Any]) -> None:
    fd = paths.open_file(request["path"], os.O_RDONLY)
    state = os.fstat(fd)
    size, length, last = state.st_size, request.get("length"), request.get("last")
    position = int(request.get("offset", 0)) if last is None else max(size - int(last), 0)
    end = size if length is None else min(size, position + int(length))
    call.event({"entry": listing.describe(request["path"], state), "version": version(state)})

    def more() -> None:
        nonlocal position
        try:
            while call.credit > 0 and position < end:
                data = os.pread(fd, min(wire.CHUNK, end - position), position)
                if not data:
                    break  # the file was truncated
                position += len(data)
                call.write(data)
            else:
                if position < end:
                    return
        except OSError as error:
            call.fail(error)
        os.close(fd)
        call.on_credit = None
        call.end(size=size)

    def cancel(_request: dict[str, Any]) -> None:
        os.close(fd)
        call.on_credit = None
        call.end()

    call.on_credit, call.on_cancel = more, cancel
    more()


def _write(call: Call, request: dict[str, Any]) -> None:
    """Writes to a temporary file and renames it at the end: a broken upload leaves the old content."""
    path, append = request["path"], request.get("append", False)
    if request.get("parents"):
        paths.make_parents(path)
    parent, name = paths.open_parent(path)
    temporary = replacing.unused_name(path)
    try:
        if append:
            fd = (
                paths.open_file(path, os.O_WRONLY | os.O_APPEND)
                if replacing.exists(parent, name)
                else replacing.create(parent, name)
            )
        else:
            if replacing.exists(parent, name) and stat.S_ISDIR(
                os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode
            ):
                raise IsADirectoryError(21, "is a directory")
            if request.get("exclusive") and replacing.exists(parent, name):
                raise FileExistsError(17, "exists")
            fd = replacing.create(parent, temporary)
    except BaseException:
        os.close(parent)
        raise
    size = 0

    def close(failed: bool) -> None:
        call.on_input = call.on_cancel = None
        os.close(fd)
        if failed and not append:
            replacing.remove(parent, temporary)
        os.close(parent)

    def take(data: bytes) -> None:
        nonlocal size
        if call.ended:
            return
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
            size += len(data)
            if data:
                call.taken(len(data))
                return
            if not append:
                replacing.finish(fd, temporary, parent, name)
            close(failed=False)
            call.end(size=size)
        except OSError as error:
            close(failed=True)
            call.fail(error)

    def cancel(_request: dict[str, Any]) -> None:
        close(failed=True)
        call.end(error={"kind": "cancelled", "message": "cancelled"})

    call.on_cancel = cancel
    call.listen(take)


def version(state: os.stat_result) -> str:
    """Returns a text that changes with the content; empty while a further change could get the same time
    stamp."""
    if not stat.S_ISREG(state.st_mode) or time.time_ns() - state.st_ctime_ns < _TICK_NS:
        return ""
    return f"{state.st_ino:x}-{state.st_size:x}-{state.st_mtime_ns:x}-{state.st_ctime_ns:x}"


def _stat(call: Call, request: dict[str, Any]) -> None:
    fd = paths.open_beneath(request["path"], os.O_PATH)
    try:
        state = os.fstat(fd)
        call.end(entry=listing.describe(request["path"], state), version=version(state))
    finally:
        os.close(fd)


def _mkdir(call: Call, request: dict[str, Any]) -> None:
    path = request["path"]
    if request.get("parents"):
        paths.make_parents(path.rstrip("/"))
    parent, name = paths.open_parent(path)
    try:
        os.mkdir(name, dir_fd=parent)
    except FileExistsError:
        kind = os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode
        if not request.get("parents") or not stat.S_ISDIR(kind):
            raise
    finally:
        os.close(parent)
    call.end()


def _move(call: Call, request: dict[str, Any]) -> None:
    source, name = paths.open_parent(request["source"])
    try:
        target, new = paths.open_parent(request["destination"])
        try:
            if replacing.exists(target, new) and not request.get("overwrite"):
                raise FileExistsError(17, "the destination exists")
            os.rename(name, new, src_dir_fd=source, dst_dir_fd=target)
        finally:
            os.close(target)
    finally:
        os.close(source)
    call.end()


def _disk(call: Call, _request: dict[str, Any]) -> None:
    states = scratch.states()
    call.end(
        disk_bytes=sum((state.f_blocks - state.f_bfree) * state.f_frsize for state in states),
        disk_limit=sum(state.f_blocks * state.f_frsize for state in states),
        inodes=sum(state.f_files - state.f_ffree for state in states),
        inodes_limit=sum(state.f_files for state in states),
        processes=sum(name.isdigit() for name in os.listdir("/proc")),
    )


def _memory_kills(call: Call, _request: dict[str, Any]) -> None:
    """Answers how many processes the memory limit has killed, if the container's own group reports it."""
    for name in ("memory/memory.oom_control", "memory.events"):
        try:
            with open(f"/sys/fs/cgroup/{name}") as file:
                counts = dict(line.split() for line in file)
        except OSError:
            continue
        if "oom_kill" in counts:
            call.end(count=int(counts["oom_kill"]))
            return
    call.end(count=None)
