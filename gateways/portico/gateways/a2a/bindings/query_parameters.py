"""The query parameters of A2A's HTTP binding, read from the annotations of its protobuf contract."""

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
# A2A 3.6.1: clients other than browsers may send the version as a parameter too.
EVERYWHERE: Known = {VERSION_HEADER: False}


def _routes(service: ServiceDescriptor) -> Iterator[tuple[str, re.Pattern[str], Known]]:
    for method in service.methods:
        options: Any = method.GetOptions()
        rule = options.Extensions[annotations_pb2.http]
        for binding in (rule, *rule.additional_bindings):
            verb = binding.WhichOneof("pattern")
            path = getattr(binding, verb)
            named = {variable.group(1) for variable in _VARIABLE.finditer(path)}
            # Fields that neither the path nor the body contains are query parameters.
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
# /tasks/{id}:subscribe must be matched before /tasks/{id}.
_ROUTES.sort(key=lambda route: ":" not in route[1].pattern)


def check_parameters(method: str, path: str, query: bytes) -> None:
    """Raises BadRequest (400) for a query parameter that the method below an interface's URL does not
    have.
    """
    if query:
        matching = (known for verb, pattern, known in _ROUTES if verb == method and pattern.fullmatch(path))
        check_query(query, next(matching, EVERYWHERE))
