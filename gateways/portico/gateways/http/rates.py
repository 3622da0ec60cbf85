"""What the core tells of the limits on a caller's calls, as fields of the answer's head.

`RateLimit-Policy` and `RateLimit` are those of the IETF's draft-ietf-httpapi-ratelimit-headers.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias

from starlette.types import Scope

from portico.client.rates import RateLimit, observe
from portico.gateways.http.corked import head_of

Headers: TypeAlias = list[tuple[bytes, bytes]]
Render: TypeAlias = Callable[[Sequence[RateLimit]], Headers]
EXPOSED = ("ratelimit", "ratelimit-policy", "retry-after")  # to pages of other origins


def standard(limits: Sequence[RateLimit]) -> Headers:
    """The limits, and what is left of them; seconds are rounded up."""
    policies = (f'"{one.name}";q={one.limit};w={one.window_seconds}' for one in limits)
    left = (
        f'"{one.name}";r={one.remaining};t={math.ceil(one.available_seconds)}'
        if one.available_seconds
        else f'"{one.name}";r={one.remaining}'
        for one in limits
    )
    return [
        (b"ratelimit-policy", ", ".join(policies).encode()),
        (b"ratelimit", ", ".join(left).encode()),
    ]


def tell_rates(scope: Scope, render: Render = standard) -> None:
    """The answer to this request has in its head what the core tells of the limits before it begins."""
    if (head := head_of(scope)) is not None:
        observe(partial(_add, head, render))


def _add(head: Headers, render: Render, limits: Sequence[RateLimit]) -> None:
    headers = render(limits)
    names = {name for name, _ in headers}
    # A request may be several calls: the last one counts.
    head[:] = [*(field for field in head if field[0] not in names), *headers]
