"""The error format of this gateway, and which errors a client must not retry.

OpenAI's clients retry after 408, 409, 429 and 5xx unless the answer has `x-should-retry: false`. An agent
that failed may have done half of its work, so its errors have this header; rate limits and an unreachable
core do not.
"""

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from logging import Logger
from typing import Any
from uuid import uuid4

import grpc
import orjson
from starlette.responses import Response

from portico.client import PorticoError
from portico.gateways.http.errors import CHALLENGE, HTTP_STATUS, RETRY_SECONDS, BadRequest, retry_after

_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
NO_RETRY = {"x-should-retry": "false"}

# Statuses that differ: OpenAI has no 416, and 499 would be sent to a caller that is still connected.
_STATUS = {**HTTP_STATUS, grpc.StatusCode.OUT_OF_RANGE: 400, grpc.StatusCode.CANCELLED: 503}
# OpenAI's codes for the core's reasons; other reasons are used in lower case.
_CODES = {
    "AGENT_NOT_FOUND": "model_not_found",
    "INVALID_ARGUMENT": "invalid_value",
    "LIMIT_EXCEEDED": "rate_limit_exceeded",
    "RESOURCE_EXHAUSTED": "rate_limit_exceeded",
    "UNAUTHENTICATED": "invalid_api_key",
    "BODY_TOO_LARGE": "request_too_large",
    "INTERNAL": "server_error",
    "UNKNOWN": "server_error",
}
# Conflicts that end without the caller's action.
_PASSING = frozenset(("SESSION_BUSY",))
# HTTP status for a run's error code; 500 for all others.
_RUN_STATUS = {
    "rate_limit_exceeded": 429,
    "deadline_exceeded": 504,
    "core_restarted": 503,
    "invalid_prompt": 400,
    "context_length_exceeded": 400,
}
# Fields of the contract, and the parameters that they come from.
_PARAMS = {
    "request.agent_name": "model",
    "request.user_id": "user",
    "request.metadata_json": "metadata",
    "request.session_id": "conversation",
    "previous_run_id": "previous_response_id",
}
_LONGEST_REQUEST_ID = 200


def _param(field: str) -> str:
    """Returns the parameter that a field of the contract comes from, as far as its name shows."""
    name = _PARAMS.get(field) or field.removeprefix("request.").replace("_json", "")
    # Messages appended to a session are items of a conversation.
    return f"items{name.removeprefix('messages')}" if name.startswith("messages[") else name


class OpenAiError(Exception):
    """An error answer. Its type defaults to the one for its status."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        type: str = "",
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.type = type or _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
        self.code = code
        self.param = param
        self.headers = dict(headers or {})


def error_json(error: OpenAiError) -> dict[str, Any]:
    """Returns the JSON of an error, for an answer's body and for a stream's event."""
    told = {"message": error.message, "type": error.type, "param": error.param, "code": error.code}
    return {"error": told}


def error_response(error: OpenAiError, request_id: str = "") -> Response:
    """Returns the answer for an error, with a new request id if none is given."""
    headers = dict(error.headers)
    headers.setdefault("x-request-id", request_id or new_request_id())
    if error.status in RETRY_SECONDS and "x-should-retry" not in headers:
        headers.setdefault("retry-after", RETRY_SECONDS[error.status])
    if error.status == HTTPStatus.UNAUTHORIZED:
        headers.update(CHALLENGE)
    # Must not fail: characters that JSON can't encode become question marks.
    body = orjson.dumps(_encodable(error_json(error)))
    return Response(body, error.status, headers, "application/json")


def missing(param: str) -> OpenAiError:
    """Returns the error for a missing required parameter."""
    message = f"Missing required parameter: '{param}'."
    return OpenAiError(message, code="missing_required_parameter", param=param)


def invalid(param: str, message: str, code: str = "invalid_value") -> OpenAiError:
    """Returns the error for an invalid parameter."""
    return OpenAiError(f"Invalid '{param}': {message}.", code=code, param=param)


def unsupported(param: str, message: str) -> OpenAiError:
    """Returns the error for a parameter that OpenAI supports and this gateway does not."""
    return OpenAiError(message, code="unsupported_parameter", param=param)


def from_core(error: PorticoError) -> OpenAiError:
    """Converts an error of the core."""
    status = _STATUS.get(error.code, 500)
    reason = error.reason or error.code.name
    headers = retry_after(error.metadata)
    conflict = status == 409 and reason not in _PASSING
    begun = status >= 500 and "run_id" in error.metadata  # the run may have done part of its work
    if conflict or begun or status == 501:
        headers.update(NO_RETRY)
    message = error.message
    if begun:
        message = f"{message} (run {error.metadata['run_id']})"
    field = error.metadata.get("field", "")
    said = _param(field)
    if field:
        message = message.replace(field, said)
    param = said or ("model" if reason == "AGENT_NOT_FOUND" else None)
    return OpenAiError(
        message, status=status, code=_CODES.get(reason, reason.lower()), param=param, headers=headers
    )


def from_run(code: str, message: str, *, rejected: bool = False) -> OpenAiError:
    """Converts the error of a run that failed or, with `rejected`, that its agent rejected (422); code and
    message are the agent's.
    """
    status = _RUN_STATUS.get(code, 422 if rejected else 500)
    # A retry is known to help only for a rate limit.
    headers = NO_RETRY if status >= 500 else None
    return OpenAiError(message, status=status, code=code, headers=headers)


def from_bad_request(error: BadRequest) -> OpenAiError:
    """Converts a request that the gateway refused; 422 becomes 400, OpenAI's status for invalid fields."""
    status = 400 if error.status == 422 else error.status
    code = _CODES.get(error.code, error.code.lower())
    return OpenAiError(error.message, status=status, code=code, param=error.field or None)


def from_status(status: int, method: str, path: str, headers: Mapping[str, str] | None = None) -> OpenAiError:
    """Converts a refusal of the router: unknown path or wrong method."""
    message = f"{HTTPStatus(status).phrase}: invalid URL ({method} {path})"
    return OpenAiError(message, status=status, code="unknown_url", headers=headers)


def from_defect(log: Logger, request_id: str = "") -> OpenAiError:
    """Logs the current exception, and returns an internal error with an id to find it in the log."""
    request_id = request_id or new_request_id()
    log.exception("request %s failed", request_id)
    message = f"internal error; quote request {request_id} to the operator"
    headers = {**NO_RETRY, "x-request-id": request_id}
    return OpenAiError(message, status=500, code="server_error", headers=headers)


def error_text(error: Exception, log: Logger, request_id: str = "") -> OpenAiError:
    """Converts the exception that is being handled to an error for the caller; logs unexpected ones."""
    match error:
        case OpenAiError():
            return error
        case BadRequest():
            return from_bad_request(error)
        case PorticoError():
            return from_core(error)
        case _:
            return from_defect(log, request_id)


def new_request_id() -> str:
    return f"req_{uuid4().hex}"


def request_id(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """Returns the caller's request id, or a new one."""
    for name, value in headers:
        if name == b"x-request-id" and 0 < len(value) <= _LONGEST_REQUEST_ID:
            given = value.decode("latin-1")
            if given.isascii() and given.isprintable():
                return given
    return new_request_id()


def _encodable(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _encodable(item) for name, item in value.items()}
    return value.encode(errors="replace").decode() if isinstance(value, str) else value
