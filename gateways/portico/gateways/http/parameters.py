"""Query parameters: a route takes those that it declares, and every other is refused.

A misspelt filter that nobody read would widen what a call lists or removes.
"""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from urllib.parse import parse_qsl

from portico.gateways.http.errors import BadRequest

_IDS = ("_id", "Id")
_SHOWN = 64  # characters of a name that nobody knows

Known = Mapping[str, bool]  # by its name, whether a parameter may be given more than once


class UnknownParameter(BadRequest):
    """A query parameter that the route does not take."""

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
    """Raises BadRequest (400) for a parameter that is not known, is given again where one is taken, or is an
    id and empty, which comes of a variable that nobody has set."""
    seen = set()
    for name, value in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
        if name not in known:
            raise UnknownParameter(name, known)
        if name in seen and not known[name]:
            raise BadRequest(f"{name}: is given more than once", status=400, field=name)
        if not value and (name == "key" or name.endswith(_IDS)):
            raise BadRequest(f"{name}: is empty; leave it out to name none", status=400, field=name)
        seen.add(name)
