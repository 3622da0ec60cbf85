"""How routes answer: JSON without a detour through models, which only OpenAPI needs."""

from collections.abc import Mapping
from typing import Annotated, Any

import orjson
from fastapi import Depends, Query
from google.protobuf.timestamp_pb2 import Timestamp
from starlette.responses import Response

from portico.gateways.sse.core import Core, core_of
from portico.gateways.sse.errors import ErrorResponse

CoreDep = Annotated[Core, Depends(core_of)]
PageSize = Annotated[int, Query(ge=0, le=200, description="0 means 50.")]
PageToken = Annotated[str, Query(description="next_page_token of the page before.")]

_TEXTS = {
    400: "Refused by the core",
    404: "Not there",
    409: "Not possible as things stand",
    413: "Too large",
    415: "Not application/json",
    416: "The cursor is not in the log",
    422: "Wrong shape",
    429: "A limit was reached",
    501: "Not built yet",
    503: "The core is away, or stops",
}


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The error answers of a route, beside those that every route has."""
    return {
        status: {"model": ErrorResponse, "description": _TEXTS[status]}
        for status in (400, 422, 503, *statuses)
    }


def answer(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON answer."""
    return Response(orjson.dumps(value), status, dict(headers or {}), "application/json")


def loads(text: str) -> Any:
    """Stored JSON; None for none."""
    return orjson.loads(text) if text else None


def seconds(time: Timestamp) -> float:
    return time.seconds + time.nanos / 1e9
