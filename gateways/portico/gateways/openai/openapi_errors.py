"""What routes have in common in the OpenAPI document: the answers that are no success, and nulls."""

from typing import Any

from pydantic import BaseModel


class ErrorBody(BaseModel):
    """What went wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorAnswer(BaseModel):
    """The body of every answer that is not a success."""

    error: ErrorBody


ERROR_TEXTS = {
    400: "A parameter is wrong; `param` names it",
    401: "No credential, or not a valid one",
    403: "The credential is not good for this",
    404: "Not there",
    409: "Not possible as things stand",
    413: "Too large",
    415: "Not application/json",
    422: "The agent refuses",
    429: "A limit was reached",
    500: "A defect; the request id is to be quoted",
    503: "The core is away, or stops",
    504: "The time was over",
}


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The error answers of a route, beside those that every route has."""
    return {
        status: {"model": ErrorAnswer, "description": ERROR_TEXTS[status]}
        for status in sorted({400, 401, 403, 500, 503, *statuses})
    }


def errors_by_hand(*statuses: int) -> dict[str, Any]:
    """The same for routes that go around FastAPI, each with its statuses."""
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorAnswer"}}}
    return {
        str(status): {"description": ERROR_TEXTS[status], "content": error} for status in sorted(statuses)
    }


def or_null(schema: dict[str, Any]) -> dict[str, Any]:
    """For a member that may be null."""
    return {"anyOf": [schema, {"type": "null"}]} if schema else {}
