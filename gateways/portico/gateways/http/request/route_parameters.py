"""Checks query parameters against those that the routes of a FastAPI application declare."""

from collections.abc import Sequence
from typing import Any, get_args, get_origin

from fastapi.dependencies.utils import get_flat_params
from fastapi.params import Query
from fastapi.routing import iter_route_contexts
from starlette.routing import BaseRoute, Match
from starlette.types import Scope

from portico.gateways.http.request.query_parameters import Known, check_query


class RouteParameters:
    """The query parameters that each route of an application declares."""

    def __init__(self, routes: Sequence[BaseRoute]) -> None:
        self._routes = [(route, _declared(route)) for route in iter_route_contexts(routes)]

    def check(self, scope: Scope) -> None:
        """Raises BadRequest (400) for an undeclared parameter. Requests that match no route may have any
        parameters.
        """
        query: bytes = scope["query_string"]
        if not query:
            return
        for route, known in self._routes:
            if route.matches(scope)[0] is Match.FULL:
                check_query(query, known)
                return


def _declared(route: Any) -> Known:
    dependant = getattr(route, "dependant", None)
    if dependant is None:
        return {}
    fields = (field for field in get_flat_params(dependant) if isinstance(field.field_info, Query))
    return {field.alias: _is_list(field.field_info.annotation) for field in fields}


def _is_list(annotation: Any) -> bool:
    return any(get_origin(part) in (list, Sequence) for part in (annotation, *get_args(annotation)))
