"""Checks query parameters: a route refuses parameters that it does not declare.

A misspelt filter that is silently ignored would widen what a call lists or deletes.
"""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from urllib.parse import parse_qsl

from portico.gateways.http.errors import BadRequest

_IDS = ("_id", "Id")
_SHOWN = 64  # characters of an unknown name in messages

Known = Mapping[str, bool]  # name to whether the parameter may occur more than once


class UnknownParameter(BadRequest):
    """A query parameter that the route does not declare."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        shown = name if len(name) <= _SHOWN else f"{name[:_SHOWN]}…"
        names = sorted(known)
        near = get_close_matches(name[:_SHOWN], names, 1)
        if near:
            hint = f"did you mean {near[0]!r}?"
        else:
            hint = f"this route takes {', '.join(names)}" if names else "this route takes none"
        super().__init__(
            f"unknown query parameter {shown!r}: {hint}", status=400, field=shown, code="UNKNOWN_PARAMETER"
        )


def check_query(query: bytes, known: Known) -> None:
    """Raises BadRequest (400) for an unknown parameter, a repeated one that may occur once, or an empty id,
    which usually comes from an unset variable.
    """
    seen = set()
    for name, value in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
        if name not in known:
            raise UnknownParameter(name, known)
        if name in seen and not known[name]:
            raise BadRequest(f"{name}: must not occur more than once", status=400, field=name)
        if not value and (name == "key" or name.endswith(_IDS)):
            raise BadRequest(f"{name}: must not be empty; omit the parameter instead", status=400, field=name)
        seen.add(name)
