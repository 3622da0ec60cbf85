"""Translates events of the Responses API, and whole responses, to the agent protocol."""

from collections.abc import Callable
from typing import Any

from portico.agent.builders import CallDelta, Delta, NewMessage, data, file, image, refusal, tool_output
from portico.frameworks.openai.fields import as_dict, failure_of, get, many, usage_of
from portico.model.messages import Content, MessageType

_REASONING = MessageType.REASONING


class ResponsesReader:
    """Reads the responses of one agent, one after the other."""

    def __init__(self, callers_tools: frozenset[str]) -> None:
        self._callers_tools = callers_tools
        self._calls: dict[str, CallDelta] = {}  # by item: the first delta of each
        self.names: dict[str, str] = {}  # of tools, by call
        self._told: set[str] = set()  # items that were streamed at least partly
        self._read: dict[str, Callable[[Any], list[object]]] = {
            "response.output_text.delta": self._text,
            "response.reasoning_text.delta": self._thought,
            "response.reasoning_summary_text.delta": self._thought,
            "response.function_call_arguments.delta": self._arguments,
            "response.mcp_call_arguments.delta": self._arguments,
            "response.custom_tool_call_input.delta": self._arguments,
            "response.output_text.annotation.added": self._annotation,
            "response.output_item.added": self._added,
            "response.output_item.done": self._done,
            "response.completed": self._ended,
            "response.incomplete": self._ended,
            "response.failed": self._failed,
            "error": self._error,
        }

    def event(self, event: Any) -> list[object]:
        """Translates one event. Raises ReportedError for an event with an error."""
        read = self._read.get(get(event, "type"))
        return [] if read is None else read(event)

    def _text(self, event: Any) -> list[object]:
        self._told.add(get(event, "item_id"))
        return [get(event, "delta")]

    def _thought(self, event: Any) -> list[object]:
        self._told.add(get(event, "item_id"))
        return [Delta(get(event, "delta"), _REASONING)]

    def _arguments(self, event: Any) -> list[object]:
        id = get(event, "item_id")
        begun = self._calls.get(id)
        if begun is None:
            return []
        self._told.add(id)
        return [CallDelta(begun.call_id, begun.name, get(event, "delta"), begun.type, begun.more)]

    def _annotation(self, event: Any) -> list[object]:
        return [data({"annotation": as_dict(get(event, "annotation"))})]

    def _added(self, event: Any) -> list[object]:
        begun = self._begun(get(event, "item"))
        return [NewMessage()] if begun is None else [begun]

    def _begun(self, item: Any) -> CallDelta | None:
        kind, name = get(item, "type"), get(item, "name") or ""
        if kind not in ("function_call", "custom_tool_call", "mcp_call"):
            return None
        id = get(item, "id") or get(item, "call_id") or ""
        more: dict[str, Any] = {}
        if kind == "mcp_call":
            type, more = MessageType.MCP_CALL, {"server_label": get(item, "server_label")}
        else:
            theirs = name in self._callers_tools
            type = MessageType.FUNCTION_CALL if theirs else MessageType.PLUGIN_CALL
        begun = self._calls[id] = CallDelta(get(item, "call_id") or id, name, "", type, more)
        self.names[begun.call_id] = name
        return begun

    def _done(self, event: Any) -> list[object]:
        return self._item(get(event, "item"))

    def _item(self, item: Any) -> list[object]:
        """Translates a complete item, without the parts that were already streamed."""
        kind, id = get(item, "type"), get(item, "id") or get(item, "call_id") or ""
        said: list[object] = []
        if id not in self._told:
            self._told.add(id)
            if kind == "message":
                said = [NewMessage(), *(_part(part) for part in many(item, "content"))]
            elif kind == "reasoning":
                parts = many(item, "content") or many(item, "summary")
                said = [Delta(get(part, "text"), _REASONING) for part in parts]
            elif kind in ("function_call", "custom_tool_call", "mcp_call"):
                begun = self._calls.get(id) or self._begun(item)
                assert begun is not None
                arguments = get(item, "arguments") or get(item, "input") or ""
                said = [CallDelta(begun.call_id, begun.name, arguments, begun.type, begun.more)]
            elif kind == "image_generation_call" and get(item, "result"):
                format = get(item, "output_format") or "png"
                said = [image(f"data:image/{format};base64,{get(item, 'result')}")]
            else:
                said = [data(as_dict(item))]
        elif kind == "message":
            said = [_part(part) for part in many(item, "content") if get(part, "type") == "refusal"]
        if kind == "mcp_call" and (output := get(item, "error") or get(item, "output")) is not None:
            said.append(tool_output(id, output, name=get(item, "name"), type=MessageType.MCP_CALL_OUTPUT))
        return said

    def _ended(self, event: Any) -> list[object]:
        counted = get(get(event, "response"), "usage")
        return [usage_of(counted)] if counted else []

    def _failed(self, event: Any) -> list[object]:
        raise failure_of(get(get(event, "response"), "error"))

    def _error(self, event: Any) -> list[object]:
        raise failure_of(event)

    def whole(self, response: Any) -> list[object]:
        if error := get(response, "error"):
            raise failure_of(error)
        said = [part for item in many(response, "output") for part in self._item(item)]
        return [*said, usage_of(get(response, "usage"))] if get(response, "usage") else said


def output_of(output: Any) -> tuple[Any, list[Content]]:
    """Returns the output of a tool: its text, and its images and files."""
    parts = output if isinstance(output, list | tuple) else ()
    if not parts or not all(str(get(part, "type")).startswith("input_") for part in parts):
        return output, []
    words = [get(part, "text") or "" for part in parts if get(part, "type") == "input_text"]
    media: list[Content] = []
    for part in parts:
        if get(part, "type") == "input_image":
            url, id = get(part, "image_url"), get(part, "file_id")
            media.append(image(url) if url else file(id=id or ""))
        elif get(part, "type") == "input_file":
            given = {name: get(part, f"file_{name}") or "" for name in ("url", "id", "data")}
            media.append(file(name=get(part, "filename") or "", **given))
    return "\n".join(words), media


def _part(part: Any) -> object:
    words = get(part, "refusal")
    return refusal(words) if words else get(part, "text") or ""
