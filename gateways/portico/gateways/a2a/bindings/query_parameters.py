"""The query parameters of A2A's HTTP binding, from the annotations of its own contract."""

import re
from collections.abc import Iterator
from typing import Any

from a2a.compat.v0_3 import a2a_v0_3_pb2
from a2a.types import a2a_pb2
from a2a.utils.constants import VERSION_HEADER
from google.api import annotations_pb2  # type: ignore[import-untyped]
from google.protobuf.descriptor import ServiceDescriptor

from portico.gateways.http.request.query_parameters import Known, check_query

_VARIABLE = re.compile(r"{(\w+)(?:=([^}]*))?}")
# Section 3.6.1 of A2A: what is not a browser's may send its version as a parameter as well.
EVERYWHERE: Known = {VERSION_HEADER: False}


def _routes(service: ServiceDescriptor) -> Iterator[tuple[str, re.Pattern[str], Known]]:
    for method in service.methods:
        options: Any = method.GetOptions()
        rule = options.Extensions[annotations_pb2.http]
        for binding in (rule, *rule.additional_bindings):
            verb = binding.WhichOneof("pattern")
            path = getattr(binding, verb)
            named = {variable.group(1) for variable in _VARIABLE.finditer(path)}
            # What the path and the body do not carry, the query does.
            carried = [] if binding.body else [f for f in method.input_type.fields if f.name not in named]
            known = {field.camelcase_name: field.is_repeated for field in carried}
            yield verb.upper(), re.compile(_VARIABLE.sub(_segments, path)), {**EVERYWHERE, **known}


def _segments(variable: re.Match[str]) -> str:
    return (variable.group(2) or "*").replace("*", "[^/]+")


_ROUTES = [
    route
    for contract in (a2a_pb2, a2a_v0_3_pb2)
    for service in contract.DESCRIPTOR.services_by_name.values()
    for route in _routes(service)
]
# /tasks/{id}:subscribe is no task of that name.
_ROUTES.sort(key=lambda route: ":" not in route[1].pattern)


def check_parameters(method: str, path: str, query: bytes) -> None:
    """Raises BadRequest (400) for a parameter that the method below an interface's URL does not take."""
    if query:
        matching = (known for verb, pattern, known in _ROUTES if verb == method and pattern.fullmatch(path))
        check_query(query, next(matching, EVERYWHERE))
