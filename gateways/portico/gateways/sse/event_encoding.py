"""Converts events to the JSON of the agent protocol, with AgentScope Runtime's field names, order and nulls.

Text deltas are the hot path: each is the constant head of its content, a sequence number and the text. All
other events go through a dict and orjson.
"""

from collections.abc import Iterable
from typing import Any

import orjson

from portico.client.run_status import TERMINAL_STATUSES
from portico.gateways.http.request.budget_json import budget_json, used_json
from portico.v1 import events_pb2 as pb
from portico.v1 import query_pb2

dumps = orjson.dumps


class _Words(dict[int, str]):
    def __missing__(self, number: int) -> str:
        return "unknown"  # a value that a newer core introduced


def _words(enum: Any, prefix: str) -> _Words:
    return _Words({number: name.removeprefix(prefix).lower() for name, number in enum.items()})


STATUS = _words(pb.RunStatus, "RUN_STATUS_")
ROLE = _words(pb.Role, "ROLE_")
MESSAGE_TYPE = _words(pb.MessageType, "MESSAGE_TYPE_")
MESSAGE_TYPE[pb.MESSAGE_TYPE_UNSPECIFIED] = "message"
CONTENT_TYPE = _words(pb.ContentType, "CONTENT_TYPE_")
_KNOWN_STARTS = 1024
_NO_STATUS = pb.RUN_STATUS_UNSPECIFIED


class EventEncoder:
    """Encodes the events of one stream as SSE frames. Caches the JSON head of the content that is
    streaming.
    """

    def __init__(self) -> None:
        self._head: tuple[str, int, bytes] = ("", -1, b"")

    def encode(self, frames: Iterable[query_pb2.StreamFrame]) -> bytes:
        """Returns the `id:` and `data:` lines of all events in the frames."""
        msg_id, index, head = self._head
        out: list[bytes] = []
        # Reading a protobuf field costs as much as encoding the text, so each is read once.
        for frame in frames:
            for event in frame.events:
                number = event.sequence_number
                content = event.content
                text = content.text
                if text and content.delta:
                    if content.msg_id != msg_id or content.index != index:
                        msg_id, index, head = self._head = _head(content)
                    start = _STARTS[number] if number < _KNOWN_STARTS else _start(number)
                    # Joining parts is cheaper than formatting them.
                    out += (start, head, dumps(text), b"}\n\n")
                else:
                    out.append(b"id: %d\ndata: %b\n\n" % (number, dumps(event_json(event))))
        return b"".join(out)


def _start(number: int) -> bytes:
    return b'id: %d\ndata: {"sequence_number":%d' % (number, number)


_STARTS = [_start(number) for number in range(_KNOWN_STARTS)]


def _head(content: pb.Content) -> tuple[str, int, bytes]:
    """Returns the JSON between sequence number and text, which is the same for all deltas of a content."""
    told = {**content_json(content), "text": ""}
    del told["sequence_number"]
    # Cut off: the opening brace, and the empty text with the closing brace.
    return content.msg_id, content.index, b"," + dumps(told)[1:-3]


def event_json(event: pb.Event) -> dict[str, Any]:
    """Returns the JSON of one event."""
    match event.WhichOneof("object"):
        case "response":
            return response_json(event.response, event.sequence_number)
        case "message":
            return message_json(event.message, event.sequence_number)
        case "content":
            return content_json(event.content, event.sequence_number)
    return {"sequence_number": event.sequence_number, "object": "unknown"}


def response_json(response: pb.Response, sequence_number: int | None = None) -> dict[str, Any]:
    """Returns the JSON of a run's response. The fields from `attempt` on are omitted when they have no
    value.
    """
    ended = response.status in TERMINAL_STATUSES
    value: dict[str, Any] = {
        "sequence_number": sequence_number,
        "object": "response",
        "status": STATUS[response.status],
        "error": _error(response),
        "id": response.id,
        "created_at": response.created_time.seconds,
        "completed_at": response.completed_time.seconds if response.HasField("completed_time") else None,
        "output": (
            [message_json(message) for message in response.output] if ended or response.output else None
        ),
        "usage": usage_json(response.usage) if response.HasField("usage") else None,
        "session_id": response.session_id,
    }
    if response.attempt > 1:
        value["attempt"] = response.attempt
    if response.HasField("input_request"):
        request = response.input_request
        value["input_request"] = {
            "id": request.id,
            "prompt": request.prompt,
            "schema": embedded(request.schema_json),
        }
        if request.kind == pb.INPUT_KIND_AUTHORIZATION:
            value["input_request"]["kind"] = "authorization"
    if response.input:
        value["input"] = [message_json(message) for message in response.input]
    if response.metadata_json:
        value["metadata"] = embedded(response.metadata_json)
    if response.HasField("budget"):
        value["budget"] = budget_json(response.budget)
        value["used"] = used_json(response.used)
    if response.parent_run_id:
        value["parent_run_id"] = response.parent_run_id
    return value


def message_json(message: pb.Message, sequence_number: int | None = None) -> dict[str, Any]:
    """Returns the JSON of a message; its content is null while the message is in progress."""
    if sequence_number is None and message.HasField("sequence_number"):
        sequence_number = message.sequence_number
    opened = message.status == pb.RUN_STATUS_IN_PROGRESS
    failed = message.HasField("error")
    return {
        "sequence_number": sequence_number,
        "object": "message",
        "status": STATUS[message.status] if message.status else "created",
        "error": _error(message),
        "id": message.id,
        "type": MESSAGE_TYPE[message.type],
        "role": ROLE[message.role] if message.role else None,
        "content": None if opened else [content_json(content) for content in message.content],
        "code": message.error.code if failed else None,
        "message": message.error.message if failed else None,
        "usage": usage_json(message.usage) if message.HasField("usage") else None,
        "metadata": embedded(message.metadata_json) or {},
    }


def content_json(content: pb.Content, sequence_number: int | None = None) -> dict[str, Any]:
    """Returns the JSON of a content, with the fields of its type last."""
    if sequence_number is None and content.HasField("sequence_number"):
        sequence_number = content.sequence_number
    kind = content.WhichOneof("value")
    whole_text = kind == "text" and not content.delta and content.status != _NO_STATUS
    value: dict[str, Any] = {
        "sequence_number": sequence_number,
        "object": "content",
        "status": STATUS[content.status] if content.status else None,
        "error": _error(content),
        "type": CONTENT_TYPE[content.type] if content.type else (kind or "unknown").removesuffix("_json"),
        "index": content.index,
        # AgentScope Runtime sends null, not false, for a complete text.
        "delta": None if whole_text else content.delta,
        "msg_id": content.msg_id or None,
    }
    match kind:
        case "text":
            value["text"] = content.text
        case "data_json":
            value["data"] = embedded(content.data_json)
        case "image":
            value["image_url"] = content.image.image_url
        case "audio":
            value["data"] = content.audio.data
            value["format"] = content.audio.format or None
        case "file":
            file = content.file
            value["file_url"] = file.file_url or None
            value["file_id"] = file.file_id or None
            value["filename"] = file.filename or None
            value["file_data"] = file.file_data or None
        case "refusal":
            value["refusal"] = content.refusal
        case "video":
            value["video_url"] = content.video.video_url
    return value


def usage_json(usage: pb.Usage) -> dict[str, Any]:
    """Returns token counts, and the provider's other usage fields beside them."""
    value: dict[str, Any] = {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
    }
    if usage.cached_input_tokens:
        value["cached_input_tokens"] = usage.cached_input_tokens
    if usage.reasoning_output_tokens:
        value["reasoning_output_tokens"] = usage.reasoning_output_tokens
    details = orjson.loads(usage.details_json or "{}")
    return {**value, **{name: said for name, said in details.items() if name not in value}}


def _error(holder: pb.Response | pb.Message | pb.Content) -> dict[str, str] | None:
    if not holder.HasField("error"):
        return None
    return {"code": holder.error.code, "message": holder.error.message}


def embedded(text: str) -> orjson.Fragment | None:
    """Returns JSON text from the core for embedding as it is; None for none.

    It is not parsed and written again: that would cost more, lose digits of large numbers, and fail for
    values nested nearly as deeply as orjson can write.
    """
    if not text:
        return None
    # The core stores valid JSON only, where line breaks occur between values only. An SSE event must be one
    # line.
    return orjson.Fragment(text.replace("\n", " ").replace("\r", " "))
