"""JSON-RPC and HTTP+JSON on the same URL: the part in front of the SDK's dispatchers, and the hot path.

It adds checks that the dispatchers lack: protocol version, media type, and size of bodies.
"""

import logging
import re
from collections.abc import Mapping
from typing import Any, TypeVar

import orjson
from a2a.compat.v0_3 import jsonrpc_adapter
from a2a.compat.v0_3.jsonrpc_adapter import JSONRPC03Adapter
from a2a.server.routes import create_rest_routes, jsonrpc_dispatcher
from a2a.server.routes.jsonrpc_dispatcher import JsonRpcDispatcher
from a2a.types import a2a_pb2 as a2a
from a2a.utils.constants import A2A_JSON_MEDIA_TYPE, PROTOCOL_VERSION_0_3, PROTOCOL_VERSION_1_0
from a2a.utils.errors import (
    A2AError,
    ContentTypeNotSupportedError,
    InvalidParamsError,
    InvalidRequestError,
    JSONParseError,
    MethodNotFoundError,
    VersionNotSupportedError,
)
from a2a.utils.proto_utils import validate_proto_required_fields
from google.protobuf.json_format import MessageToDict, ParseDict, ParseError
from google.protobuf.message import Message as ProtoMessage
from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Router
from starlette.types import Message, Receive, Scope, Send

from portico.gateways.a2a.bindings.lazy_stream import run_until_body
from portico.gateways.a2a.bindings.query_parameters import check_parameters
from portico.gateways.a2a.bindings.sse_rendering import (
    Envelope,
    JsonRpcEnvelope,
    RestEnvelope,
    TaskEvents,
    refused,
)
from portico.gateways.a2a.call_context import (
    CONTEXT,
    VERSION,
    HttpContexts,
    call_context,
    http_caller,
    http_version,
)
from portico.gateways.a2a.errors import REFUSED, as_a2a, refusal_of
from portico.gateways.a2a.request_handler import A2aRequestHandler
from portico.gateways.http.errors import CHALLENGE, BadRequest
from portico.gateways.http.request.body import Disconnected, cancel_on_disconnect, read_body
from portico.gateways.http.sse_stream import StreamRegistry

P = TypeVar("P", bound=ProtoMessage)

log = logging.getLogger(__name__)

_STREAM = "SendStreamingMessage"
_STREAM_PATH = "/message:stream"
_CANCEL_PATH = re.compile(r"(?:/(?P<tenant>[^/]+))?/tasks/(?P<id>[^/]+):cancel")
_OLD_METHODS: Mapping[str, Any] = JSONRPC03Adapter.METHOD_TO_MODEL
_OLD_PREFIX = "/v1/"  # path prefix of 0.3's HTTP+JSON


class HttpBindings:
    """Both bindings below an interface's URL."""

    def __init__(self, handler: A2aRequestHandler, streams: StreamRegistry, max_body_bytes: int) -> None:
        self._handler = handler
        self._streams = streams
        self._max_body_bytes = max_body_bytes
        contexts = HttpContexts()
        self._rpc = JsonRpcDispatcher(handler, context_builder=contexts, enable_v0_3_compat=True)
        routes = create_rest_routes(handler, context_builder=contexts, enable_v0_3_compat=True)
        self._rest = Router(routes, redirect_slashes=False, default=_no_such_path)

    async def __call__(self, rest: str, scope: Scope, receive: Receive, send: Send) -> None:
        """`rest` is the path after the interface's URL, empty for JSON-RPC."""
        envelope: Envelope = RestEnvelope() if rest else JsonRpcEnvelope(None)
        try:
            check_parameters(scope["method"], rest, scope["query_string"])
            body = await self._body(scope, receive)
            if rest:
                await self._on_rest(rest, body, scope, receive, send)
            else:
                await self._on_rpc(body, scope, receive, send)
        except Disconnected:
            pass  # the caller has disconnected
        except BadRequest as error:
            await refused(envelope, error)(scope, receive, send)
        except Exception as error:
            await envelope.failure(as_a2a(error))(scope, receive, send)

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        if scope["method"] in ("GET", "HEAD", "DELETE", "OPTIONS"):
            return b""
        body, media_type = await read_body(scope, receive, self._max_body_bytes)
        if body and media_type != b"application/json" and not media_type.endswith(b"+json"):
            raise ContentTypeNotSupportedError(
                message="The body must be JSON, with the header content-type: application/json",
                data={"mediaType": media_type.decode("latin-1")},
            )
        return body

    async def _on_rest(self, rest: str, body: bytes, scope: Scope, receive: Receive, send: Send) -> None:
        version = scope[VERSION] = http_version(scope)
        old = rest.startswith(_OLD_PREFIX)
        if old and version != PROTOCOL_VERSION_0_3:
            raise MethodNotFoundError(message="Paths below /v1/ exist in A2A 0.3 only")
        if not old and version == PROTOCOL_VERSION_0_3:
            raise _newer("This path")
        if rest == _STREAM_PATH and version == PROTOCOL_VERSION_1_0 and scope["method"] == "POST":
            params = _params(_json(body), a2a.SendMessageRequest())
            if await self._stream(params, RestEnvelope(), scope, receive, send):
                return
        if (cancel := _CANCEL_PATH.fullmatch(rest)) and version == PROTOCOL_VERSION_1_0:
            await self._cancel(cancel["id"], cancel["tenant"] or "", body, scope, receive, send)
            return
        inner = {**scope, "path": rest, "raw_path": rest.encode(), "root_path": ""}
        await run_until_body(self._rest, inner, _again(body, receive), _with_refusal(send, inner))

    async def _cancel(
        self, id: str, tenant: str, body: bytes, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Cancels a task. The SDK's route ignores the body, and with it the metadata."""
        if scope["method"] != "POST":
            await Response(status_code=405, headers={"allow": "POST"})(scope, receive, send)
            return
        params = _params(_json(body) if body else {}, a2a.CancelTaskRequest())
        params.id, params.tenant = id, params.tenant or tenant
        task = await self._handler.on_cancel_task(params, call_context(http_caller(scope), {}))
        answer = Response(orjson.dumps(MessageToDict(task)), 200, None, A2A_JSON_MEDIA_TYPE)
        await answer(scope, receive, send)

    async def _on_rpc(self, body: bytes, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "POST":
            await Response(status_code=405, headers={"allow": "POST"})(scope, receive, send)
            return
        call: Any = None
        envelope = JsonRpcEnvelope(None)
        try:
            call = _json(body)
            envelope = JsonRpcEnvelope(_id(call))
            version = scope[VERSION] = http_version(scope)
            method = _method(call)
            if method == _STREAM and version == PROTOCOL_VERSION_1_0:
                params = _params(call.get("params"), a2a.SendMessageRequest())
                if await self._stream(params, envelope, scope, receive, send):
                    return
            elif "/" in method and version == PROTOCOL_VERSION_1_0:
                raise MethodNotFoundError(message="The method exists in A2A 0.3 only, not in 1.0")
            elif method in JsonRpcDispatcher.METHOD_TO_MODEL and version == PROTOCOL_VERSION_0_3:
                raise _newer(method)
            elif method in _OLD_METHODS:
                _check_old(call, _OLD_METHODS[method])
            request = Request(scope, _again(body, receive))
            response = await cancel_on_disconnect(receive, self._rpc.handle_requests(request))
            _say_refusal(response, scope)
        except A2AError as error:
            response = envelope.failure(error)
        await response(scope, receive, send)

    async def _stream(
        self, params: a2a.SendMessageRequest, envelope: Envelope, scope: Scope, receive: Receive, send: Send
    ) -> bool:
        """Answers with a new run's events. Returns false for requests that the SDK handles, which are not
        performance-critical.
        """
        if params.message.task_id or params.configuration.HasField("task_push_notification_config"):
            return False
        try:
            validate_proto_required_fields(params)
            context = call_context(http_caller(scope), {}, tenant=params.tenant)
            agent, caller = await self._handler.agent(params, context)
            if agent.answers_directly:
                return False
            followed = await self._handler.opened(params, agent, caller)
        except Exception as error:
            raise as_a2a(error) from None
        events = TaskEvents(followed.translator, envelope, params.configuration)
        await self._streams.send(followed.stream, events, scope, receive, send)
        return True


def _with_refusal(send: Send, scope: Scope) -> Send:
    """Adds the headers of 401, 429 and 503 to answers, which the SDK leaves out."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] >= 400:
            _, headers = _refusal(scope) or (0, CHALLENGE if message["status"] == 401 else None)
            more = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
            message = {**message, "headers": [*message["headers"], *more]}
        await send(message)

    return sending


def _refusal(scope: Scope) -> tuple[int, Mapping[str, str] | None] | None:
    context = scope.get(CONTEXT)
    return None if context is None else refusal_of(context.state.get(REFUSED))


def _say_refusal(response: Response, scope: Scope) -> None:
    """Sets the HTTP status of credential, limit and availability errors; the SDK answers every JSON-RPC error
    with 200.
    """
    if (refusal := _refusal(scope)) is not None:
        status, headers = refusal
        response.status_code = status
        response.headers.update(headers or {})


def _json(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise JSONParseError(message=f"The body is not JSON: {error}") from None


def _method(call: Any) -> str:
    """Returns a JSON-RPC call's method. The SDK would log each malformed call as an internal error, with a
    traceback.
    """
    if not isinstance(call, dict):
        raise InvalidRequestError(message="The body must be one JSON-RPC call; batches are not supported")
    if call.get("jsonrpc") != "2.0":
        raise InvalidRequestError(message="jsonrpc must be 2.0")
    if call.get("id") is not None and _id(call) is None:
        raise InvalidRequestError(message="id must be a string or an integer")
    method = call.get("method")
    if not isinstance(method, str):
        raise InvalidRequestError(message="method must be a string")
    if not isinstance(call.get("params"), dict | None):
        raise InvalidParamsError(message="params must be an object")
    return method


def _is_defect(record: logging.LogRecord) -> bool:
    """Returns false for log records of the SDK about invalid parameters of callers."""
    return not record.exc_info or not isinstance(record.exc_info[1], ParseError | ValidationError)


for _sdk in (jsonrpc_dispatcher, jsonrpc_adapter):
    logging.getLogger(_sdk.__name__).addFilter(_is_defect)


def _newer(what: str) -> VersionNotSupportedError:
    """Returns the error for the most common mistake: a call of 1.0 without a version header counts as 0.3."""
    return VersionNotSupportedError(
        message=f"{what} exists in A2A 1.0 only, and the call is A2A 0.3; send the header A2A-Version: 1.0",
        data={"supportedVersions": PROTOCOL_VERSION_1_0},
    )


def _check_old(call: Any, model: type[BaseModel]) -> None:
    """Raises InvalidParamsError for invalid parameters of 0.3; the SDK would report an invalid request
    instead.
    """
    try:
        model.model_validate(call)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        fields = [(".".join(str(part) for part in item["loc"][1:]), item["msg"]) for item in found]
        if any(item["loc"][:1] == ("params",) for item in found):
            errors = [{"field": field, "message": problem} for field, problem in fields]
            raise InvalidParamsError(message="Validation failed", data={"errors": errors}) from None


def _id(call: Any) -> str | int | None:
    id = call.get("id") if isinstance(call, dict) else None
    return id if isinstance(id, str | int) and not isinstance(id, bool) else None


def _params(value: Any, params: P) -> P:
    try:
        return ParseDict(value or {}, params, ignore_unknown_fields=True)
    except (ParseError, TypeError, AttributeError) as error:
        raise InvalidParamsError(message=f"Invalid parameters: {error}") from None


def _again(body: bytes, receive: Receive) -> Receive:
    """Returns a `receive` that yields the body, which has been read already, and then the caller's further
    messages.
    """
    given = False

    async def receive_again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_again


async def _no_such_path(scope: Scope, receive: Receive, send: Send) -> None:
    error = MethodNotFoundError(message="Unknown path")
    await RestEnvelope().failure(error)(scope, receive, send)
