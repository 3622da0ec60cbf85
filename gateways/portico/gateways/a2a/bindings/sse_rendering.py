"""Renders the HTTP stream of a new run: the hot path, instead of the SDK's rendering.

A text delta is the constant head of its artifact, the text and a constant tail; all other events go through
the translator and ProtoJSON.
"""

from typing import Any, Protocol

import orjson
from a2a.utils.error_handlers import build_error_details, build_rest_error_payload
from a2a.utils.errors import JSON_RPC_ERROR_CODE_MAP, A2AError, InvalidParamsError, InvalidRequestError
from a2a.utils.proto_utils import to_stream_response
from a2a.utils.task import HistoryLengthConfig, apply_history_length
from google.protobuf.json_format import MessageToDict
from starlette.responses import Response

from portico.client import PorticoError
from portico.gateways.a2a.errors import as_a2a, refusal_of
from portico.gateways.a2a.tasks.translator import TaskTranslator
from portico.gateways.http.errors import BadRequest
from portico.gateways.http.sse_stream import Frames

dumps = orjson.dumps

STOPPING = b": this gateway is stopping; subscribe to the task again\n\n"
_NOWHERE = ("", -1)


class Envelope(Protocol):
    """The frame that a binding puts around its answers."""

    head: bytes
    tail: bytes

    def failure(self, error: A2AError) -> Response:
        """Returns the answer to a call that failed."""
        ...

    def error_json(self, error: A2AError) -> Any:
        """Returns the JSON of an error."""
        ...


def refused(envelope: Envelope, error: BadRequest) -> Response:
    """Returns the answer to a request that the gateway refused."""
    told: A2AError = InvalidRequestError(message=error.message)
    if error.field:
        errors = [{"field": error.field, "message": error.message}]
        told = InvalidParamsError(message=error.message, data={"errors": errors})
    answer = envelope.failure(told)
    answer.status_code = error.status
    return answer


class JsonRpcEnvelope:
    """The envelope of JSON-RPC, which repeats the request's id."""

    def __init__(self, request_id: Any) -> None:
        self._id = request_id
        self.head = b'data: {"jsonrpc":"2.0","id":%b,"result":' % dumps(request_id)
        self.tail = b"}\n\n"

    def error_json(self, error: A2AError) -> Any:
        code = JSON_RPC_ERROR_CODE_MAP.get(type(error), -32603)
        told = {"code": code, "message": error.message, "data": build_error_details(error)}
        return {"jsonrpc": "2.0", "id": self._id, "error": told}

    def failure(self, error: A2AError) -> Response:
        status, headers = refusal_of(error) or (200, None)
        return Response(dumps(self.error_json(error)), status, headers, "application/json")


class RestEnvelope:
    """The envelope of HTTP+JSON: none around answers, and errors as google.rpc.Status."""

    head = b"data: "
    tail = b"\n\n"

    def error_json(self, error: A2AError) -> Any:
        return build_rest_error_payload(error)

    def failure(self, error: A2AError) -> Response:
        told = self.error_json(error)
        _, headers = refusal_of(error) or (0, None)
        return Response(dumps(told), told["error"]["code"], headers, "application/json")


class TaskEvents:
    """Renders one new run: the task, then its updates."""

    def __init__(self, translator: TaskTranslator, envelope: Envelope, config: HistoryLengthConfig) -> None:
        self._translator = translator
        self._envelope = envelope
        self._config = config
        self._place = _NOWHERE  # the streaming content
        self._start = b""
        self._end = b"}]}}}" + envelope.tail

    def headers(self, run_id: str, frames: Frames | tuple[()]) -> list[tuple[bytes, bytes]]:
        return []

    def events(self, frames: Frames) -> list[bytes]:
        out: list[bytes] = []
        start, end = self._start, self._end
        msg_id, index = self._place
        # Reading a protobuf field costs as much as encoding the text, so each is read once.
        for frame in frames:
            for event in frame.events:
                content = event.content
                text = content.text
                if text and content.delta and content.msg_id == msg_id and content.index == index:
                    out += (start, dumps(text), end)
                    continue
                first = not self._translator.task_id
                updates = self._translator.add_event(event)
                if first:
                    task = apply_history_length(self._translator.task(), self._config)
                    self._translator.forget()
                    out.append(self._line(task))
                elif updates:
                    out += map(self._line, updates)
                    if text and content.delta:
                        start = self._begin(content.msg_id)
                        msg_id, index = self._place = content.msg_id, content.index
        return [b"".join(out)]

    def _line(self, event: Any) -> bytes:
        return b"".join(
            (self._envelope.head, dumps(MessageToDict(to_stream_response(event))), self._envelope.tail)
        )

    def _begin(self, artifact_id: str) -> bytes:
        """Returns the bytes before the text of each further chunk; the members are ordered so that the text
        comes last.
        """
        translator = self._translator
        self._start = b"".join(
            (
                self._envelope.head,
                b'{"artifactUpdate":{"taskId":',
                dumps(translator.task_id),
                b',"contextId":',
                dumps(translator.context_id),
                b',"append":true,"artifact":{"artifactId":',
                dumps(artifact_id),
                b',"parts":[{"text":',
            )
        )
        return self._start

    def ended(self, *, stopping: bool) -> bytes:
        return STOPPING if stopping else b""

    def refusal(self, error: PorticoError) -> Response:
        return self._envelope.failure(as_a2a(error))

    def failure(self, error: Exception) -> bytes:
        return error_event(self._envelope, error)


def error_event(envelope: Envelope, error: Exception) -> bytes:
    """Returns the last event of a stream that has begun and failed."""
    return b"event: error\ndata: %b\n\n" % dumps(envelope.error_json(as_a2a(error)))
