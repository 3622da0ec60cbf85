"""Converts the messages of a run's log to output items of a response."""

from dataclasses import dataclass, field
from typing import Any

import orjson

from portico.gateways.openai.content_text import content_as_text, content_data, content_text
from portico.gateways.openai.responses.stream.output_items import (
    COMPLETED,
    INCOMPLETE,
    CallItem,
    Item,
    ReasoningItem,
    TextItem,
    ToolItem,
    ToolListItem,
    WholeItem,
)
from portico.gateways.openai.responses.stream.response_builder import ResponseBuilder
from portico.gateways.openai.responses.stream.text_parts import REFUSAL
from portico.v1 import events_pb2 as pb

_TOOL_CALLS = frozenset(
    (pb.MESSAGE_TYPE_PLUGIN_CALL, pb.MESSAGE_TYPE_COMPONENT_CALL, pb.MESSAGE_TYPE_MCP_CALL)
)
_TOOL_OUTPUTS = frozenset(
    (
        pb.MESSAGE_TYPE_PLUGIN_CALL_OUTPUT,
        pb.MESSAGE_TYPE_COMPONENT_CALL_OUTPUT,
        pb.MESSAGE_TYPE_MCP_CALL_OUTPUT,
    )
)
# Types whose data content is an item of its own kind; all others are texts.
_STRUCTURED = (
    _TOOL_CALLS
    | _TOOL_OUTPUTS
    | {
        pb.MESSAGE_TYPE_FUNCTION_CALL,
        pb.MESSAGE_TYPE_FUNCTION_CALL_OUTPUT,
        pb.MESSAGE_TYPE_MCP_LIST_TOOLS,
        pb.MESSAGE_TYPE_MCP_APPROVAL_REQUEST,
        pb.MESSAGE_TYPE_MCP_APPROVAL_RESPONSE,
    }
)

_PHASES = ("commentary", "final_answer")


@dataclass(slots=True)
class _Open:
    """A message of the log that is not complete yet."""

    type: int
    text: TextItem | None = None
    calls: dict[int, Item] = field(default_factory=dict)  # index of the announcing content to item
    items: list[Item] = field(default_factory=list)


class OutputMessages:
    """Processes the messages and contents of one response."""

    def __init__(self, segment: ResponseBuilder) -> None:
        self._segment = segment
        self._open: dict[str, _Open] = {}
        self._running: dict[str, ToolItem] = {}  # call id to the item that waits for its result

    def message(self, message: pb.Message) -> None:
        """Processes a message event: the message has been opened or is complete."""
        if message.type == pb.MESSAGE_TYPE_HEARTBEAT:
            return
        if message.status == pb.RUN_STATUS_IN_PROGRESS:
            opened = self._open[message.id] = _Open(message.type)
            if message.type not in _STRUCTURED:
                self._begin_text(opened, message.id, message.metadata_json)
            return
        opened_before = self._open.pop(message.id, None)
        if opened_before is None:
            return
        if message.HasField("error") and not message.content:
            if opened_before.text is None:
                self._begin_text(opened_before, message.id)
            assert opened_before.text is not None
            opened_before.text.part(message.error.message)
        status = COMPLETED if message.status == pb.RUN_STATUS_COMPLETED else INCOMPLETE
        for item in opened_before.items:
            if item.open and not (isinstance(item, ToolItem) and status == COMPLETED):
                item.finish(status)

    def content(self, content: pb.Content) -> TextItem | None:
        """Processes a delta, an announcement or a complete content. Returns the item whose text further
        deltas extend.
        """
        opened = self._open.get(content.msg_id)
        if opened is None:
            return None
        whole = content.status != pb.RUN_STATUS_IN_PROGRESS and not content.delta
        kind = content.WhichOneof("value")
        if opened.type in _STRUCTURED and kind == "data_json":
            self._data(opened, content, whole=whole)
            return None
        if opened.text is None:
            if not whole and not content.delta:
                return None
            self._begin_text(opened, f"{content.msg_id}_{content.index}")
        assert opened.text is not None
        if content.delta and kind == "text":
            opened.text.text(content.text)
            return opened.text
        if content.delta and kind == "refusal":
            opened.text.text(content.refusal, REFUSAL)
        elif whole and (text := content_text(content)) is not None:
            opened.text.part(text, REFUSAL if kind == "refusal" and self._speaks(opened) else None)
        return None

    def question(self, request: pb.InputRequest) -> None:
        """Adds a message with the prompt of the agent's input request."""
        index, id = self._segment.place(f"msg_{request.id.removeprefix('input_')}")
        item = TextItem(self._segment.writer, index, id)
        self._segment.add(item)
        item.part(request.prompt)
        item.finish(COMPLETED)

    def _speaks(self, opened: _Open) -> bool:
        return not isinstance(opened.text, ReasoningItem)

    def _begin_text(self, opened: _Open, id: str, metadata_json: str = "") -> None:
        segment = self._segment
        index, id = segment.place(id)
        if opened.type == pb.MESSAGE_TYPE_REASONING:
            opened.text = ReasoningItem(segment.writer, index, id, summary=segment.summarised)
        else:
            opened.text = TextItem(segment.writer, index, id, phase=_phase(metadata_json))
        self._add(opened, opened.text)

    def _add(self, opened: _Open, item: Item) -> None:
        opened.items.append(item)
        self._segment.add(item)

    def _data(self, opened: _Open, content: pb.Content, *, whole: bool) -> None:
        data = content_data(content)
        match opened.type:
            case pb.MESSAGE_TYPE_FUNCTION_CALL:
                item = opened.calls.get(content.index) or self._begin_call(opened, content, data)
                assert isinstance(item, CallItem)
                _tell_arguments(item, data.get("arguments"), whole=whole)
            case type if type in _TOOL_CALLS:
                item = opened.calls.get(content.index) or self._begin_tool(opened, content, data)
                assert isinstance(item, ToolItem)
                _tell_arguments(item, data.get("arguments"), whole=whole)
            case type if type in _TOOL_OUTPUTS and whole:
                self._answer(opened, content, data)
            case _ if whole:
                self._whole(opened, content, data)

    def _id(self, content: pb.Content) -> str:
        # Each content of a message becomes an item.
        return f"{content.msg_id}_{content.index}" if content.index else content.msg_id

    def _begin_call(self, opened: _Open, content: pb.Content, data: dict[str, Any]) -> CallItem:
        segment = self._segment
        index, id = segment.place(self._id(content))
        name = content_as_text(data.get("name"))
        item = CallItem(
            segment.writer,
            index,
            id,
            segment.call_id(content_as_text(data.get("call_id")) or f"call_{id}"),
            name,
            custom=name in segment.custom_tools,
            more={"namespace": data["namespace"]} if isinstance(data.get("namespace"), str) else {},
        )
        opened.calls[content.index] = item
        self._add(opened, item)
        return item

    def _begin_tool(self, opened: _Open, content: pb.Content, data: dict[str, Any]) -> ToolItem:
        segment = self._segment
        index, id = segment.place(self._id(content))
        label = content_as_text(data.get("server_label")) or segment.agent_name
        item = ToolItem(segment.writer, index, id, content_as_text(data.get("name")), label)
        opened.calls[content.index] = item
        if call_id := content_as_text(data.get("call_id")):
            self._running[call_id] = item
        self._add(opened, item)
        return item

    def _answer(self, opened: _Open, content: pb.Content, data: dict[str, Any]) -> None:
        item = self._running.pop(content_as_text(data.get("call_id")), None)
        if item is None or not item.open:
            # The call is in an earlier response, or does not exist.
            item = self._begin_tool(opened, content, data)
            self._running.pop(content_as_text(data.get("call_id")), None)
            item.arguments(content_as_text(data.get("arguments")))
        error = data.get("error")
        output = data.get("output")
        item.answer(None if output is None else content_as_text(output), error)

    def _whole(self, opened: _Open, content: pb.Content, data: dict[str, Any]) -> None:
        """Adds an item that is complete from the start."""
        segment = self._segment
        writer = segment.writer
        label = content_as_text(data.get("server_label")) or segment.agent_name
        if opened.type == pb.MESSAGE_TYPE_MCP_LIST_TOOLS:
            index, id = segment.place(self._id(content))
            tools = ToolListItem(writer, index, id, label)
            self._add(opened, tools)
            listed = data.get("tools")
            error = data.get("error")
            tools.tools(
                listed if isinstance(listed, list) else [], None if error is None else content_as_text(error)
            )
            return
        own_id = self._id(content)
        if opened.type == pb.MESSAGE_TYPE_MCP_APPROVAL_REQUEST:
            own_id = content_as_text(data.get("id")) or own_id
            value: dict[str, Any] = {
                "type": "mcp_approval_request",
                "server_label": label,
                "name": content_as_text(data.get("name")),
                "arguments": content_as_text(data.get("arguments")),
            }
        elif opened.type == pb.MESSAGE_TYPE_MCP_APPROVAL_RESPONSE:
            value = {
                "type": "mcp_approval_response",
                "approval_request_id": content_as_text(data.get("approval_request_id")),
                "approve": bool(data.get("approve")),
                "reason": data.get("reason"),
            }
        else:
            value = {
                "type": "function_call_output",
                "status": COMPLETED,
                "call_id": content_as_text(data.get("call_id")),
                "output": content_as_text(data.get("output")),
            }
        index, id = segment.place(own_id)
        self._add(opened, WholeItem(writer, index, id, value))


def _tell_arguments(item: CallItem | ToolItem, arguments: Any, *, whole: bool) -> None:
    if whole:
        item.arguments(content_as_text(arguments))
    elif isinstance(arguments, str):
        item.growing(arguments)


def _phase(metadata_json: str) -> str:
    if "phase" not in metadata_json:
        return ""
    metadata = orjson.loads(metadata_json)
    phase = metadata.get("phase") if isinstance(metadata, dict) else None
    return phase if phase in _PHASES else ""
