"""Shared parts of the routes: bodies are parsed by hand and answers written without models, which only
document them in OpenAPI.
"""

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

import orjson
from fastapi import Depends, Query, Request
from google.protobuf.timestamp_pb2 import Timestamp
from pydantic import BaseModel, ValidationError
from starlette.responses import Response

from portico.client import JsonText
from portico.gateways.http.core_connection import CoreConnection, core_connection_of
from portico.gateways.http.errors import BadRequest
from portico.gateways.http.request.body import read_json_body
from portico.gateways.http.request.body_fields import dump, load
from portico.gateways.sse.errors import ErrorResponse

Model = TypeVar("Model", bound=BaseModel)

BODY = (413, 415)  # statuses that every route with a body may return

ERROR_TEXTS = {
    400: "Not JSON, or the core refused the values",
    404: "Not found",
    409: "Not possible in the current state",
    413: "Too large",
    415: "Not application/json",
    416: "The cursor is beyond the log, or the range beyond the file",
    422: "A field is missing, unknown or has a wrong type or value",
    429: "A limit was reached",
    501: "The backend does not support it",
    500: "Internal error; quote the request id to the operator",
    503: "The core is unreachable or stopping",
    504: "The core did not answer in time",
}


async def _given(request: Request) -> dict[str, Any]:
    # FastAPI's own parser accepts NaN, lone surrogates and numbers of any length.
    limit: int = request.app.state.max_body_bytes
    return load(await read_json_body(request.scope, request.receive, limit))


CoreDep = Annotated[CoreConnection, Depends(core_connection_of)]
Given = Annotated[dict[str, Any], Depends(_given)]
PageSize = Annotated[int, Query(ge=0, le=200, description="The most items; 0 means 50.")]
PageToken = Annotated[str, Query(description="next_page_token of the previous page.")]


def takes(schema: str | dict[str, Any]) -> dict[str, Any]:
    """Returns the OpenAPI of a route's body.

    Args:
        schema: The name of a model in the document's components, or a schema.
    """
    told = {"$ref": f"#/components/schemas/{schema}"} if isinstance(schema, str) else schema
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": told}}}}


def checked(model: type[Model], value: dict[str, Any]) -> Model:
    """Validates a body strictly and returns it as a model. Raises BadRequest with the path of the first
    invalid value.
    """
    try:
        # no conversions: numbers are not strings, and 1 is not true
        return model.model_validate(value, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        path = field_path(first["loc"])
        raise BadRequest(f"{path}: {first['msg']}", field=path) from None


def field_path(location: tuple[int | str, ...]) -> str:
    """Formats a pydantic location as the other messages do: input[0].role."""
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return path.removeprefix(".")


def json_object(value: dict[str, Any] | None) -> JsonText | None:
    """Returns the value as JSON text, the form in which the client sends it on."""
    return None if value is None else JsonText(dump(value))


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Returns the error answers of a route for OpenAPI: `statuses`, and those that all routes share."""
    return {
        status: {"model": ErrorResponse, "description": ERROR_TEXTS[status]}
        for status in sorted((400, 422, 500, 503, 504, *statuses))
    }


def answer(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Returns a JSON answer."""
    return Response(orjson.dumps(value), status, dict(headers or {}), "application/json")


def seconds(time: Timestamp) -> float:
    return time.seconds + time.nanos / 1e9
