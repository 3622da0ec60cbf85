"""Shared parts of the OpenAPI document: error answers and nullable members."""

from typing import Any

from pydantic import BaseModel


class ErrorBody(BaseModel):
    """The error."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorAnswer(BaseModel):
    """The body of every answer that is not a success."""

    error: ErrorBody


ERROR_TEXTS = {
    400: "A parameter is invalid; `param` names it",
    401: "The credential is missing or invalid",
    403: "The credential does not permit this call",
    404: "Not found",
    409: "Not possible in the current state",
    413: "Too large",
    415: "Not application/json",
    422: "The agent rejected the run",
    429: "A limit was reached",
    500: "Internal error; quote the request id to the operator",
    503: "The core is unreachable or stopping",
    504: "The deadline has passed",
}


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Returns the error answers of a route: `statuses`, and those that all routes share."""
    return {
        status: {"model": ErrorAnswer, "description": ERROR_TEXTS[status]}
        for status in sorted({400, 401, 403, 500, 503, *statuses})
    }


def errors_by_hand(*statuses: int) -> dict[str, Any]:
    """Returns the error answers of a route that bypasses FastAPI: exactly `statuses`."""
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorAnswer"}}}
    return {
        str(status): {"description": ERROR_TEXTS[status], "content": error} for status in sorted(statuses)
    }


def or_null(schema: dict[str, Any]) -> dict[str, Any]:
    """Makes a schema nullable."""
    return {"anyOf": [schema, {"type": "null"}]} if schema else {}
