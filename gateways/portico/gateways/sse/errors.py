"""The error JSON of this gateway."""

from collections.abc import Mapping
from http import HTTPStatus
from logging import Logger
from typing import Any
from uuid import uuid4

import orjson
from pydantic import BaseModel, Field
from starlette.responses import Response

from portico.client import PorticoError
from portico.gateways.http.errors import CHALLENGE, HTTP_STATUS, RETRY_SECONDS, BadRequest, retry_after


class ErrorBody(BaseModel):
    """The error."""

    code: str = Field(description="A stable, machine-readable code, such as RUN_NOT_FOUND.")
    message: str = Field(description="Explanation for people; may change.")
    details: dict[str, str] = Field(description="Values that belong to the code, such as the run's id.")


class ErrorResponse(BaseModel):
    """The body of every answer that is not a success."""

    error: ErrorBody


def error_json(code: str, message: str, details: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Returns the JSON of an error."""
    return {"error": {"code": code, "message": message, "details": dict(details or {})}}


def error_response(
    status: int,
    code: str,
    message: str,
    details: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Returns the answer for an error, with retry-after and www-authenticate where the status requires
    them.
    """
    all_headers = dict(headers or {})
    if status in RETRY_SECONDS:
        all_headers.setdefault("retry-after", RETRY_SECONDS[status])
    if status == HTTPStatus.UNAUTHORIZED:
        all_headers.update(CHALLENGE)
    body = orjson.dumps(error_json(code, message, details))
    return Response(body, status, all_headers, "application/json")


def from_core(error: PorticoError) -> Response:
    """Returns the answer for an error of the core."""
    status = HTTP_STATUS.get(error.code, 500)
    reason, headers = error.reason or error.code.name, retry_after(error.metadata)
    return error_response(status, reason, error.message, error.metadata, headers)


def from_bad_request(error: BadRequest) -> Response:
    """Returns the answer for a request that the gateway refused."""
    details = {"field": error.field} if error.field else {}
    return error_response(error.status, error.code, error.message, details)


def defect_json(log: Logger) -> dict[str, Any]:
    """Logs the current exception and returns the JSON of an internal error, with an id to find it in the
    log.
    """
    request_id = uuid4().hex
    log.exception("request %s failed", request_id)
    text = f"internal error; quote request {request_id} to the operator"
    return error_json("INTERNAL", text, {"request_id": request_id})


def from_defect(log: Logger) -> Response:
    """Logs the current exception and returns the answer for it: 500."""
    return Response(orjson.dumps(defect_json(log)), 500, None, "application/json")


def from_status(status: int, headers: Mapping[str, str] | None = None) -> Response:
    """Returns the answer for a request that the router refuses: unknown path or wrong method."""
    phrase = HTTPStatus(status)
    return error_response(status, phrase.name, phrase.phrase, headers=headers)
