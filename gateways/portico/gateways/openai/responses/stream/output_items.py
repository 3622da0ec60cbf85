"""Output items: each writes its own events and returns its JSON at any time."""

from typing import Any

from portico.gateways.openai.responses.stream.event_writer import DELTA, TAIL, EventWriter, delta_head, dumps
from portico.gateways.openai.responses.stream.text_parts import (
    OUTPUT_TEXT,
    REASONING_TEXT,
    SUMMARY_TEXT,
    PartKind,
)

IN_PROGRESS = "in_progress"
COMPLETED = "completed"
INCOMPLETE = "incomplete"


class Item:
    """One item of a response's output, from its added event to its done event."""

    def __init__(self, writer: EventWriter, index: int, id: str) -> None:
        self.id = id
        self.status = IN_PROGRESS
        self._writer = writer
        self._index = index
        self._place = {"item_id": id, "output_index": index}

    @property
    def open(self) -> bool:
        """Whether the item is in progress."""
        return self.status == IN_PROGRESS

    def json(self) -> dict[str, Any]:
        """Returns the item in its current state."""
        raise NotImplementedError

    def begin(self) -> None:
        """Writes the added event."""
        self._tell("response.output_item.added")

    def finish(self, status: str) -> None:
        """Ends the item."""
        self.status = status
        self._tell("response.output_item.done")

    def _tell(self, type: str) -> None:
        self._writer.event(type, {"output_index": self._index, "item": self.json()})

    def _event(self, type: str, fields: dict[str, Any] | None = None) -> None:
        self._writer.event(type, {**self._place, **(fields or {})})


class TextItem(Item):
    """A message: consecutive text parts, of which the last may still grow."""

    def __init__(
        self, writer: EventWriter, index: int, id: str, kind: PartKind = OUTPUT_TEXT, phase: str = ""
    ) -> None:
        super().__init__(writer, index, id)
        self.kind = kind  # the kind of plain text parts
        self._phase = phase
        self._done: list[dict[str, Any]] = []
        self._open: PartKind | None = None
        self._texts: list[str] = []
        self._head = b""

    def begin_part(self, kind: PartKind) -> None:
        """Opens a part; completes the previous one."""
        self.end_part()
        self._open = kind
        self._texts = []
        at = self._at(kind)
        self._event(kind.added, {**at, "part": kind.json("")})
        self._head = delta_head(kind.delta, {**self._place, **at, **dict(kind.more)})

    def delta(self, text: str) -> None:
        """Appends text to the open part. This is the hot path."""
        self._texts.append(text)
        writer = self._writer
        number = writer.number
        writer.number = number + 1
        if number > writer.after:
            writer.frames.append(b"".join((self._head, b"%d" % number, DELTA, dumps(text), TAIL)))

    def text(self, text: str, kind: PartKind | None = None) -> None:
        """Appends text; opens a part if none is open."""
        if self._open is None:
            self.begin_part(kind or self.kind)
        self.delta(text)

    def end_part(self, text: str | None = None) -> None:
        """Completes the open part, if any."""
        kind = self._open
        if kind is None:
            return
        if text is None:
            text = "".join(self._texts)
        self._open = None
        at = self._at(kind)
        part = kind.json(text)
        self._event(kind.done, {**at, kind.text: text, **dict(kind.more)})
        self._event(kind.closed, {**at, "part": part})
        self._done.append(part)

    def part(self, text: str, kind: PartKind | None = None) -> None:
        """Adds a complete part; completes the open one instead if it is of this kind."""
        kind = kind or self.kind
        if self._open is not kind:
            self.begin_part(kind)
        if not self._texts and text:
            self.delta(text)
        self.end_part(text)

    def finish(self, status: str) -> None:
        self.end_part()
        super().finish(status)

    def json(self) -> dict[str, Any]:
        told: dict[str, Any] = {
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "status": self.status,
            "content": self.parts(),
        }
        if self._phase:
            told["phase"] = self._phase
        return told

    def parts(self) -> list[dict[str, Any]]:
        """Returns the parts in their current state."""
        if self._open is None:
            return list(self._done)
        return [*self._done, self._open.json("".join(self._texts))]

    def _at(self, kind: PartKind) -> dict[str, int]:
        return {kind.index: len(self._done)}


class ReasoningItem(TextItem):
    """The agent's reasoning, as content, or as a summary if the caller requested one."""

    def __init__(self, writer: EventWriter, index: int, id: str, *, summary: bool) -> None:
        super().__init__(writer, index, id, SUMMARY_TEXT if summary else REASONING_TEXT)
        self._summary = summary

    def json(self) -> dict[str, Any]:
        parts = self.parts()
        return {
            "id": self.id,
            "type": "reasoning",
            "status": self.status,
            "summary": parts if self._summary else [],
            "content": [] if self._summary else parts,
            "encrypted_content": None,
        }


class _Called(Item):
    """A call whose arguments arrive in pieces."""

    def __init__(self, writer: EventWriter, index: int, id: str) -> None:
        super().__init__(writer, index, id)
        self._arguments = ""

    def growing(self, text: str) -> None:
        """Sets the arguments received so far."""
        if len(text) > len(self._arguments) and text.startswith(self._arguments):
            piece = text[len(self._arguments) :]
            self._arguments = text
            self._delta(piece)

    def arguments(self, text: str) -> None:
        """Sets the complete arguments."""
        if text:
            self.growing(text)
        else:
            self._delta("")
        self._arguments = text
        self._done(text)

    def _delta(self, piece: str) -> None:
        raise NotImplementedError

    def _done(self, text: str) -> None:
        raise NotImplementedError


class CallItem(_Called):
    """A call for the caller to execute; a `custom` one takes any text instead of JSON."""

    def __init__(
        self,
        writer: EventWriter,
        index: int,
        id: str,
        call_id: str,
        name: str,
        *,
        custom: bool,
        more: dict[str, Any],
    ) -> None:
        super().__init__(writer, index, id)
        self._call = {"call_id": call_id, "name": name, **more}
        self._custom = custom

    def _delta(self, piece: str) -> None:
        kind = "custom_tool_call_input" if self._custom else "function_call_arguments"
        self._event(f"response.{kind}.delta", {"delta": piece})

    def _done(self, text: str) -> None:
        if self._custom:
            self._event("response.custom_tool_call_input.done", {"input": text})
        else:
            told = {"name": self._call["name"], "arguments": text}
            self._event("response.function_call_arguments.done", told)

    def json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "type": "custom_tool_call" if self._custom else "function_call",
            "status": self.status,
            **self._call,
            "input" if self._custom else "arguments": self._arguments,
        }


class ToolItem(_Called):
    """A call that the agent executes itself, with its result once available."""

    def __init__(self, writer: EventWriter, index: int, id: str, name: str, server_label: str) -> None:
        super().__init__(writer, index, id)
        self.name = name
        self._server_label = server_label
        self._output: str | None = None
        self._error: Any = None

    def begin(self) -> None:
        super().begin()
        self._event("response.mcp_call.in_progress")

    def _delta(self, piece: str) -> None:
        self._event("response.mcp_call_arguments.delta", {"delta": piece})

    def _done(self, text: str) -> None:
        self._event("response.mcp_call_arguments.done", {"arguments": text})

    def answer(self, output: str | None, error: Any = None) -> None:
        """Sets the result and ends the item."""
        self._output = output
        if error is not None:
            self._error = {"type": "mcp_tool_execution_error", "content": error}
        self.finish("failed" if error is not None else COMPLETED)

    def finish(self, status: str) -> None:
        if status == COMPLETED:
            self._event("response.mcp_call.completed")
        elif status == "failed":
            self._event("response.mcp_call.failed")
        super().finish(status)

    def json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "type": "mcp_call",
            "status": self.status,
            "server_label": self._server_label,
            "name": self.name,
            "arguments": self._arguments,
            "output": self._output,
            "error": self._error,
            "approval_request_id": None,
        }


class WholeItem(Item):
    """An item that is complete from the start."""

    def __init__(self, writer: EventWriter, index: int, id: str, value: dict[str, Any]) -> None:
        super().__init__(writer, index, id)
        self._value = value

    def json(self) -> dict[str, Any]:
        told = {"id": self.id, **self._value}
        if "status" in told:
            told["status"] = self.status
        return told


class ToolListItem(WholeItem):
    """The tools that a server offers."""

    def __init__(self, writer: EventWriter, index: int, id: str, server_label: str) -> None:
        value: dict[str, Any] = {
            "type": "mcp_list_tools",
            "server_label": server_label,
            "tools": [],
            "error": None,
        }
        super().__init__(writer, index, id, value)

    def begin(self) -> None:
        super().begin()
        self._event("response.mcp_list_tools.in_progress")

    def tools(self, tools: list[Any], error: str | None) -> None:
        """Sets the tools, or the error."""
        self._value = {**self._value, "tools": tools, "error": error}
        self._event(
            "response.mcp_list_tools.completed" if error is None else "response.mcp_list_tools.failed"
        )
