"""Results of sandbox tools in the form of MCP's CallToolResult: meta, content, structuredContent, isError."""

import base64
from typing import Any

from portico.sandbox import errors
from portico.sandbox.events import CellResult
from portico.sandbox.file_names import to_text

Result = dict[str, Any]


def text_result(
    text: str, description: str | None = None, *, failed: bool = False, structured: Any = None
) -> Result:
    """Returns a result with one text."""
    return result_of([text_part(text, description)], failed, structured)


def result_of(content: list[dict[str, Any]], failed: bool, structured: Any = None) -> Result:
    """Returns a result with content parts."""
    return {"meta": None, "content": content, "structuredContent": structured, "isError": failed}


def text_part(text: str, description: str | None) -> dict[str, Any]:
    """Returns a content part with a text."""
    return {"type": "text", "text": text, "annotations": None, "description": description}


def failed_result(error: errors.SandboxError) -> Result:
    """Returns a result for an error, with isError."""
    return text_result(
        to_text(f"{error.reason}: {error.message}"), "error", failed=True, structured={"reason": error.reason}
    )


def cell_result(result: CellResult) -> Result:
    """Converts a cell's output, displayed objects and errors to a tool result."""
    content = []
    if result.stdout or not (result.rich or result.stderr or not result.ok):
        content.append(text_part(result.stdout.decode(errors="replace"), "stdout"))
    for rich in result.rich:
        images = [kind for kind in ("image/png", "image/jpeg") if kind in rich.data]
        for kind in images[:1]:
            data = base64.b64encode(rich.data[kind]).decode()
            content.append({"type": "image", "data": data, "mimeType": kind, "annotations": None})
        if not images:
            plain = rich.data.get("text/plain", b"").decode(errors="replace")
            content.append(text_part(plain, "result" if rich.is_result else "display"))
    if result.stderr:
        content.append(text_part(result.stderr.decode(errors="replace"), "stderr"))
    structured = None
    if result.end.error is not None:
        content.append(text_part(result.end.error.traceback, "error"))
        structured = {"error": result.end.error.name, "message": result.end.error.message}
    if result.end.failure is not None:
        failure = result.end.failure
        content.append(text_part(f"{failure.reason}: {failure.message}", "error"))
        structured = {"reason": failure.reason}
    return result_of(content, not result.ok, structured)
