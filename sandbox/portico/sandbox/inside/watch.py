"""Tells a call what changes below a directory, by inotify."""

import os
import struct
from typing import Any, Final

from . import linux, paths
from .calls import Call
from .loop import READ, Loop

_EVENT: Final = struct.Struct("iIII")
_MODIFY, _MOVED_FROM, _MOVED_TO, _CREATE, _DELETE, _OVERFLOW = 0x2, 0x40, 0x80, 0x100, 0x200, 0x4000
_MASK: Final = 0x8 | _MOVED_FROM | _MOVED_TO | _CREATE | _DELETE | _MODIFY
_KINDS: Final = {_CREATE: "created", _DELETE: "removed", _MOVED_FROM: "removed", _MOVED_TO: "created"}
_MAX_DIRECTORIES: Final = 4096


def start(loop: Loop, call: Call, request: dict[str, Any]) -> None:
    top = request["path"].rstrip("/") or "."
    recursive = request.get("recursive", False)
    fd = linux.inotify_init()
    watched: dict[int, str] = {}

    def add(path: str, *, fresh: bool = False) -> None:
        directory = paths.open_directory(path)
        try:
            watched[linux.inotify_add(fd, f"/proc/self/fd/{directory}", _MASK)] = path
            entries = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in os.scandir(directory)]
        finally:
            os.close(directory)
        if fresh:  # what was made in it before it was watched; a few may be told twice
            for name, is_directory in entries:
                call.event({"type": "created", "path": f"{path}/{name}", "directory": is_directory})
        if recursive and len(watched) < _MAX_DIRECTORIES:
            for name in (name for name, is_directory in entries if is_directory):
                try:
                    add(f"{path}/{name}", fresh=fresh)
                except OSError:
                    continue  # removed meanwhile

    def ready(_events: int) -> None:
        data = os.read(fd, 64 << 10)
        place = 0
        while place < len(data):
            descriptor, mask, _, size = _EVENT.unpack_from(data, place)
            name = os.fsdecode(data[place + _EVENT.size : place + _EVENT.size + size].rstrip(b"\0"))
            place += _EVENT.size + size
            if mask & _OVERFLOW:
                call.event({"type": "overflow", "path": top})
            elif descriptor in watched and name:
                path = f"{watched[descriptor]}/{name}"
                kind = next((word for bit, word in _KINDS.items() if mask & bit), "modified")
                call.event({"type": kind, "path": path, "directory": bool(mask & 0x40000000)})
                if recursive and kind == "created" and mask & 0x40000000:
                    try:
                        add(path, fresh=True)
                    except OSError:
                        pass  # removed meanwhile

    def cancel(_request: dict[str, Any]) -> None:
        loop.forget(fd)
        os.close(fd)
        call.end()

    try:
        add(top)
    except BaseException:
        os.close(fd)
        raise
    loop.watch(fd, READ, ready)
    call.on_cancel = cancel
    call.event({"type": "ready", "path": top})
