"""The one error shape of this gateway, and which errors a client should not answer by trying again.

OpenAI's clients try again after 408, 409, 429 and 5xx unless `x-should-retry: false` says otherwise: an
agent that failed may have done half of its work, so it says so; a limit and a core that is away do not.
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

# Where OpenAI's status differs: it has no 416, and who is told 499 is still there.
_STATUS = {**HTTP_STATUS, grpc.StatusCode.OUT_OF_RANGE: 400, grpc.StatusCode.CANCELLED: 503}
# OpenAI's words for ours; the others are ours in small letters.
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
# Conflicts that pass by themselves.
_PASSING = frozenset(("SESSION_BUSY",))
# How a run's own error code reads as a status; what is not here is 500.
_RUN_STATUS = {
    "rate_limit_exceeded": 429,
    "deadline_exceeded": 504,
    "core_restarted": 503,
    "invalid_prompt": 400,
    "context_length_exceeded": 400,
}
# Fields of the contract, as the parameters that they came from.
_PARAMS = {
    "request.agent_name": "model",
    "request.user_id": "user",
    "request.metadata_json": "metadata",
    "request.session_id": "conversation",
    "previous_run_id": "previous_response_id",
}
_LONGEST_REQUEST_ID = 200


def _param(field: str) -> str:
    """A field of the contract as the caller wrote it, as far as its name tells."""
    name = _PARAMS.get(field) or field.removeprefix("request.").replace("_json", "")
    # The messages that a session is given are a conversation's items.
    return f"items{name.removeprefix('messages')}" if name.startswith("messages[") else name


class OpenAiError(Exception):
    """An answer that is not a success. Without a type it has the one of its status."""

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
    """The body of an answer, and the data of a stream's event."""
    told = {"message": error.message, "type": error.type, "param": error.param, "code": error.code}
    return {"error": told}


def error_response(error: OpenAiError, request_id: str = "") -> Response:
    """The answer for an error; without an id of the request it gets one."""
    headers = dict(error.headers)
    headers.setdefault("x-request-id", request_id or new_request_id())
    if error.status in RETRY_SECONDS and "x-should-retry" not in headers:
        headers.setdefault("retry-after", RETRY_SECONDS[error.status])
    if error.status == HTTPStatus.UNAUTHORIZED:
        headers.update(CHALLENGE)
    # An error is never a reason to fail: what is no text for JSON becomes a question mark.
    body = orjson.dumps(_encodable(error_json(error)))
    return Response(body, error.status, headers, "application/json")


def missing(param: str) -> OpenAiError:
    """For what must be there."""
    message = f"Missing required parameter: '{param}'."
    return OpenAiError(message, code="missing_required_parameter", param=param)


def invalid(param: str, message: str, code: str = "invalid_value") -> OpenAiError:
    """For what is there and can't be taken."""
    return OpenAiError(f"Invalid '{param}': {message}.", code=code, param=param)


def unsupported(param: str, message: str) -> OpenAiError:
    """For what OpenAI has and this gateway has not."""
    return OpenAiError(message, code="unsupported_parameter", param=param)


def from_core(error: PorticoError) -> OpenAiError:
    """An error of the core."""
    status = _STATUS.get(error.code, 500)
    reason = error.reason or error.code.name
    headers = retry_after(error.metadata)
    conflict = status == 409 and reason not in _PASSING
    begun = status >= 500 and "run_id" in error.metadata  # the run may have done half of its work
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
    """A run that failed, or was rejected by its agent (422): the agent's words and code."""
    status = _RUN_STATUS.get(code, 422 if rejected else 500)
    # Only a limit is known to be worth another try.
    headers = NO_RETRY if status >= 500 else None
    return OpenAiError(message, status=status, code=code, headers=headers)


def from_bad_request(error: BadRequest) -> OpenAiError:
    """A request that never reached the core. What a field says wrongly is 400 here."""
    status = 400 if error.status == 422 else error.status
    code = _CODES.get(error.code, error.code.lower())
    return OpenAiError(error.message, status=status, code=code, param=error.field or None)


def from_status(status: int, method: str, path: str, headers: Mapping[str, str] | None = None) -> OpenAiError:
    """What the router refuses: an unknown path, a wrong method."""
    message = f"{HTTPStatus(status).phrase}: invalid URL ({method} {path})"
    return OpenAiError(message, status=status, code="unknown_url", headers=headers)


def from_defect(log: Logger, request_id: str = "") -> OpenAiError:
    """An exception that nobody meant; the log has what it was."""
    request_id = request_id or new_request_id()
    log.exception("request %s failed", request_id)
    message = f"internal error; quote request {request_id} to the operator"
    headers = {**NO_RETRY, "x-request-id": request_id}
    return OpenAiError(message, status=500, code="server_error", headers=headers)


def as_told(error: Exception, log: Logger, request_id: str = "") -> OpenAiError:
    """What a caller is told of an exception, while it is handled; one that nobody meant goes to the log."""
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
    """The caller's own id of a request, or a new one."""
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
