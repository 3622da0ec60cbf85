"""OpenAPI: the document has all routes, and every route in it exists."""

from collections.abc import Iterable, Iterator
from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute

from portico.gateways.sse.app import create_app
from portico.gateways.sse.settings import SseSettings

METHODS = ("get", "put", "post", "delete", "patch", "head", "options")
ERROR = {"$ref": "#/components/schemas/ErrorResponse"}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return create_app(SseSettings()).openapi()


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            assert method in METHODS
            yield method, path, operation


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for item in value.values():
            yield from references(item)
    elif isinstance(value, list):
        for item in value:
            yield from references(item)


def own_routes(routes: Iterable[BaseRoute]) -> Iterator[APIRoute]:
    """Newer versions of FastAPI keep an included router as one route."""
    for route in routes:
        if isinstance(route, APIRoute):
            yield route
        elif (router := getattr(route, "original_router", None)) is not None:
            yield from own_routes(router.routes)


def test_every_operation_is_described(document: dict[str, Any]) -> None:
    ids = set()
    for method, path, operation in operations(document):
        assert operation["summary"], (method, path)
        assert operation["description"], (method, path)
        assert operation["tags"], (method, path)
        ids.add(operation["operationId"])
        success = [status for status in operation["responses"] if status.startswith("2")]
        assert success, (method, path)
        for parameter in operation.get("parameters", ()):
            assert "schema" in parameter
            assert (parameter["in"] == "path") == (f"{{{parameter['name']}}}" in path)
    assert len(ids) == len(list(operations(document)))


def test_every_error_has_the_one_shape(document: dict[str, Any]) -> None:
    for method, path, operation in operations(document):
        errors = {status: told for status, told in operation["responses"].items() if status >= "4"}
        for told in errors.values():
            assert told["content"] == {"application/json": {"schema": ERROR}}, (method, path)
            assert told["description"]
        if operation["tags"] != ["service"]:
            assert {"400", "422", "500", "503"} <= set(errors), (method, path)
        if "requestBody" in operation:
            assert {"413", "415"} <= set(errors), (method, path)
            (body,) = operation["requestBody"]["content"].values()
            assert body["schema"]


def test_every_reference_resolves(document: dict[str, Any]) -> None:
    found = set(references(document))
    for reference in found:
        kind, _, name = reference.removeprefix("#/components/").partition("/")
        assert name in document["components"][kind], reference
    assert {f"#/components/schemas/{name}" for name in document["components"]["schemas"]} == found


def test_every_route_is_in_it(document: dict[str, Any]) -> None:
    routes = {
        (method.lower(), route.path)
        for route in own_routes(create_app(SseSettings()).routes)
        for method in route.methods or ()
    }
    assert routes | {("post", "/process")} == {(method, path) for method, path, _ in operations(document)}
    assert len(routes) > 30


def test_success_has_a_schema_unless_it_is_a_stream_or_empty(document: dict[str, Any]) -> None:
    for method, path, operation in operations(document):
        for status, told in operation["responses"].items():
            if status in ("200", "201"):
                content = told["content"]
                json = content.get("application/json", {}).get("schema")
                others = {"text/event-stream", "application/octet-stream"} & set(content)
                assert json or others, (method, path)
            elif status == "204":
                assert "content" not in told


@pytest.mark.asyncio(loop_scope="module")
async def test_it_is_served(http: httpx.AsyncClient, document: dict[str, Any]) -> None:
    assert (await http.get("/openapi.json")).json() == document
    assert (await http.get("/docs")).status_code == 200
