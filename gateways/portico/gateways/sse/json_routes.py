"""What routes have in common: bodies by hand, answers without models, which only OpenAPI needs."""

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

import orjson
from fastapi import Depends, Query, Request
from google.protobuf.timestamp_pb2 import Timestamp
from pydantic import BaseModel, ValidationError
from starlette.responses import Response

from portico.client import JsonText
from portico.gateways.http.core_connection import Core, core_of
from portico.gateways.http.errors import BadRequest
from portico.gateways.http.request.body import read_json_body
from portico.gateways.http.request.body_fields import dump, load
from portico.gateways.sse.errors import ErrorResponse

Model = TypeVar("Model", bound=BaseModel)

BODY = (413, 415)  # what every route with a body may answer too

ERROR_TEXTS = {
    400: "Not JSON, or refused by the core",
    404: "Not there",
    409: "Not possible as things stand",
    413: "Too large",
    415: "Not application/json",
    416: "The cursor is not in the log",
    422: "Wrong shape",
    429: "A limit was reached",
    501: "Not with this backend",
    500: "A defect; the request id is to be quoted",
    503: "The core is away, or stops",
    504: "The core took too long",
}


async def _given(request: Request) -> dict[str, Any]:
    # FastAPI's own way takes NaN, lone surrogates and numbers of any length.
    limit: int = request.app.state.max_body_bytes
    return load(await read_json_body(request.scope, request.receive, limit))


CoreDep = Annotated[Core, Depends(core_of)]
Given = Annotated[dict[str, Any], Depends(_given)]
PageSize = Annotated[int, Query(ge=0, le=200, description="0 means 50.")]
PageToken = Annotated[str, Query(description="next_page_token of the page before.")]


def takes(schema: str | dict[str, Any]) -> dict[str, Any]:
    """The OpenAPI of a route's body: a model of models.py by its name, or a schema."""
    told = {"$ref": f"#/components/schemas/{schema}"} if isinstance(schema, str) else schema
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": told}}}}


def checked(model: type[Model], value: dict[str, Any]) -> Model:
    """The body as a model. Raises BadRequest with the path of the first thing that is wrong."""
    try:
        return model.model_validate(value, strict=True)  # a number is no text, and 1 is not true
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        path = field_path(first["loc"])
        raise BadRequest(f"{path}: {first['msg']}", field=path) from None


def field_path(location: tuple[int | str, ...]) -> str:
    """A place as the other messages name it: input[0].role."""
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return path.removeprefix(".")


def json_object(value: dict[str, Any] | None) -> JsonText | None:
    """JSON that travels as text from here on."""
    return None if value is None else JsonText(dump(value))


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The error answers of a route, beside those that every route has."""
    return {
        status: {"model": ErrorResponse, "description": ERROR_TEXTS[status]}
        for status in sorted((400, 422, 500, 503, 504, *statuses))
    }


def answer(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON answer."""
    return Response(orjson.dumps(value), status, dict(headers or {}), "application/json")


def seconds(time: Timestamp) -> float:
    return time.seconds + time.nanos / 1e9
