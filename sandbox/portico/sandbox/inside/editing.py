"""Replaces texts in a file. Process 1 edits a small file itself; a large one, whose diff may take long, is
edited in a process of its own.
"""

import os
from typing import Any, Final

from . import paths, replacing
from .calls import Call, Failure
from .processes import Processes

_MAX_TEXT: Final = 8 << 20  # bytes of a file
_MAX_DIFF: Final = 2 << 20  # bytes
_SMALL: Final = 16 << 10  # bytes of a file and its edits; with few lines, the worst case takes some 10 ms
_FEW_LINES: Final = 64


def start(processes: Processes, call: Call, request: dict[str, Any]) -> None:
    """Applies the edits and answers with the diff. Raises Failure, OSError."""
    path, temporary = request["path"], replacing.unused_name(request["path"])
    texts = [text for edit in request["edits"] for text in (edit["old"], edit["new"])]
    size, lines = sum(map(len, texts)), sum(text.count("\n") for text in texts)
    with open(paths.open_file(path, os.O_RDONLY), "rb") as file:
        size += os.fstat(file.fileno()).st_size
        if size <= _SMALL:
            before = file.read(_SMALL)
            if lines + before.count(b"\n") <= _FEW_LINES:
                call.write(_edit(request, before, temporary))
                call.end(exit_code=0)
                return

    def work() -> None:
        with open(paths.open_file(path, os.O_RDONLY), "rb") as file:
            content = file.read(_MAX_TEXT + 1)
        if len(content) > _MAX_TEXT:
            raise Failure("invalid", f"{path}: longer than {_MAX_TEXT} bytes")
        diff = _edit(request, content, temporary)
        with open(1, "wb", closefd=False) as out:
            out.write(diff)

    processes.work(call, request["op"], work, then=lambda: replacing.forget(path, temporary))


def _edit(request: dict[str, Any], content: bytes, temporary: str) -> bytes:
    path, before = request["path"], content.decode()
    after = before
    for edit in request["edits"]:
        if not edit["old"] or edit["old"] not in after:
            raise Failure("no_match", f"{path}: the text to replace is not there: {edit['old'][:200]!r}")
        after = after.replace(edit["old"], edit["new"], 1)
    import difflib  # rarely needed; in the zygote it would slow down every fork

    lines = difflib.unified_diff(before.splitlines(True), after.splitlines(True), path, path)
    whole = "".join(line if line.endswith("\n") else line + "\n" for line in lines)
    diff = whole.encode(errors="surrogateescape")  # the path may not be UTF-8
    if len(diff) > _MAX_DIFF:
        raise Failure("limit", f"{path}: the diff has more than {_MAX_DIFF} bytes", limit="output")
    if not request.get("dry_run") and after != before:
        replacing.replace(path, after.encode(), temporary)
    return diff
