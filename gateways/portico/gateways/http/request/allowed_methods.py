"""Finds the methods that a path allows."""

from fastapi import FastAPI
from starlette.routing import Match
from starlette.types import Scope


def allowed(app: FastAPI, scope: Scope) -> str:
    """Returns the value of the Allow header for this path; the router's own names the methods of one route
    only.

    A path that the OpenAPI document lists literally is not matched as another route's path parameter.
    """
    named = app.openapi()["paths"].get(scope["path"], {})
    methods = [method.upper() for method in named] or [
        method
        for method in ("DELETE", "GET", "PATCH", "POST", "PUT")
        if any(route.matches({**scope, "method": method})[0] is Match.FULL for route in app.router.routes)
    ]
    return ", ".join(sorted(methods))
