"""Which methods a path has."""

from fastapi import FastAPI
from starlette.routing import Match
from starlette.types import Scope


def allowed(app: FastAPI, scope: Scope) -> str:
    """The value of Allow for this path; the router's own names the methods of one route only.

    A path that is named is not taken for a value of another's parameter.
    """
    named: list[str] = []
    fit: list[str] = []
    for method in ("DELETE", "GET", "PATCH", "POST", "PUT"):
        for route in app.router.routes:
            match, found = route.matches({**scope, "method": method, "path_params": {}})
            if match is Match.FULL:
                fit.append(method)
                if not found.get("path_params"):
                    named.append(method)
                break
    return ", ".join(named or fit)
