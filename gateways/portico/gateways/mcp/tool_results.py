"""Results of tools: structured and bounded, and as text and images for clients that ignore structure."""

import base64
import codecs
from typing import Any

from mcp_types import CallToolResult, ContentBlock, ImageContent, TextContent
from pydantic import BaseModel, Field

from portico.v1 import sandbox_pb2 as pb

IMAGES = ("image/png", "image/jpeg", "image/gif", "image/webp")
_MARK = "\n[…]\n"


class CreatedSandbox(BaseModel):
    """A sandbox."""

    sandbox_id: str
    type: str
    tier: str = Field(description="The strength of its isolation.")


class FileText(BaseModel):
    """A file's content as text."""

    path: str
    text: str
    truncated: bool


class Written(BaseModel):
    """A written file."""

    path: str
    size_bytes: int


class FileEntry(BaseModel):
    path: str
    type: str
    size_bytes: int


class Files(BaseModel):
    """A page of a directory."""

    files: list[FileEntry]
    truncated: bool
    next_page_token: str


class Snapshot(BaseModel):
    """A snapshot of a sandbox's files."""

    snapshot_id: str
    size_bytes: int


class Snapshots(BaseModel):
    """The caller's snapshots."""

    snapshots: list[Snapshot]
    truncated: bool


class Deleted(BaseModel):
    """The result of deleting a snapshot."""

    snapshot_id: str
    deleted: bool


class Ended(BaseModel):
    """The result of ending a sandbox."""

    sandbox_id: str
    ended: bool


class Text:
    """Decodes bytes that arrive in pieces, and keeps the beginning and the end of the text."""

    def __init__(self, limit: int) -> None:
        self._half = limit // 2
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._head = ""
        self._tail = ""
        self.truncated = False

    def add(self, data: bytes, *, final: bool = False) -> None:
        """Adds bytes; `final` marks the last ones."""
        text = self._decoder.decode(data, final)
        room = self._half - len(self._head)
        self._head += text[:room] if room > 0 else ""
        self._tail += text[max(room, 0) :]
        if len(self._tail) > self._half:
            self._tail = self._tail[-self._half :]
            self.truncated = True

    def __str__(self) -> str:
        return f"{self._head}{_MARK}{self._tail}" if self.truncated else self._head + self._tail


class Outcome:
    """Collects the events of a cell or command into one result."""

    def __init__(self, limit: int) -> None:
        self._out = Text(limit)
        self._err = Text(limit)
        self._results: list[str] = []
        self._images: list[ImageContent] = []
        self._limit = limit
        self._end: dict[str, Any] = {}
        self._failed = False

    def take(self, event: pb.RunCellResponse | pb.RunCommandResponse) -> None:
        """Processes an event."""
        match event.WhichOneof("event"):
            case "stdout":
                self._out.add(event.stdout)
            case "stderr":
                self._err.add(event.stderr)
            case "rich" if isinstance(event, pb.RunCellResponse):
                self._show(event.rich)
            case "end":
                self._finish(event.end)

    def _show(self, rich: pb.RichOutput) -> None:
        for kind in IMAGES:
            if kind in rich.data:
                data = base64.b64encode(rich.data[kind]).decode()
                self._images.append(ImageContent(type="image", data=data, mime_type=kind))
                return
        text = Text(self._limit)
        text.add(rich.data.get("text/plain", b""), final=True)
        self._results.append(str(text))

    def _finish(self, end: pb.CellEnd | pb.ProcessEnd) -> None:
        self._out.add(b"", final=True)
        self._err.add(b"", final=True)
        if isinstance(end, pb.ProcessEnd):
            self._end["exit_code"] = end.exit_code if end.HasField("exit_code") else None
            self._failed = self._end["exit_code"] != 0
        elif end.HasField("error"):
            self._end["error"] = end.error.traceback
            self._failed = True
        if end.HasField("failure"):
            self._end["failure"] = f"{end.failure.reason}: {end.failure.message}"
            self._failed = True

    def result(self, sandbox_id: str) -> CallToolResult:
        """Returns the tool's result."""
        told: dict[str, Any] = {
            "sandbox_id": sandbox_id,
            "stdout": str(self._out),
            "stderr": str(self._err),
            "truncated": self._out.truncated or self._err.truncated,
            **self._end,
        }
        if self._results:
            told["results"] = self._results
        words = [told["stdout"], told["stderr"], *self._results]
        words += [str(told[name]) for name in ("error", "failure") if name in told]
        text = "\n".join(word.rstrip("\n") for word in words if word) or "(no output)"
        content: list[ContentBlock] = [TextContent(type="text", text=text), *self._images]
        return CallToolResult(content=content, structured_content=told, is_error=self._failed)
