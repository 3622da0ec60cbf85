"""Puts the core's rate limits for a caller into the headers of the answer.

`RateLimit-Policy` and `RateLimit` follow the IETF's draft-ietf-httpapi-ratelimit-headers.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias

from starlette.types import Scope

from portico.client.rate_limits import RateLimit, observe
from portico.gateways.http.server.batched_protocol import head_of

Headers: TypeAlias = list[tuple[bytes, bytes]]
Render: TypeAlias = Callable[[Sequence[RateLimit]], Headers]
EXPOSED = ("ratelimit", "ratelimit-policy", "retry-after")  # readable by pages of other origins


def standard_headers(limits: Sequence[RateLimit]) -> Headers:
    """Returns the limits and the remaining calls as headers; seconds are rounded up."""
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


def add_rate_limit_headers(scope: Scope, render: Render = standard_headers) -> None:
    """Adds the limits that the core reports, before the answer begins, to the head of the answer."""
    if (head := head_of(scope)) is not None:
        observe(partial(_add, head, render))


def _add(head: Headers, render: Render, limits: Sequence[RateLimit]) -> None:
    headers = render(limits)
    names = {name for name, _ in headers}
    # A request may make several calls to the core; the last one's limits count.
    head[:] = [*(field for field in head if field[0] not in names), *headers]
