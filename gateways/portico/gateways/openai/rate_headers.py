"""Reports the caller's rate limits in OpenAI's headers, in addition to the standard ones."""

from collections.abc import Sequence

from portico.client.rate_limits import RateLimit
from portico.gateways.http.rate_limit_headers import Headers, standard_headers

_PREFIX = "x-ratelimit"
EXPOSED = tuple(f"{_PREFIX}-{what}-requests" for what in ("limit", "remaining", "reset"))


def rate_headers(limits: Sequence[RateLimit]) -> Headers:
    """Returns the headers. OpenAI's headers report a single limit: the one with the fewest calls left."""
    headers = standard_headers(limits)
    if limits:
        first = min(limits, key=lambda one: one.remaining)
        values = (str(first.limit), str(first.remaining), duration(_until_full(first)))
        headers += [(name.encode(), value.encode()) for name, value in zip(EXPOSED, values, strict=True)]
    return headers


def _until_full(limit: RateLimit) -> float:
    """Returns the seconds until the whole limit is available again."""
    more = max(limit.limit - limit.remaining - 1, 0)
    return limit.available_seconds + more * limit.window_seconds / limit.limit


def duration(seconds: float) -> str:
    """Formats seconds as OpenAI does: 0s, 120ms, 1.5s, 6m0s, 2h0m0s."""
    milliseconds = round(seconds * 1000)
    if milliseconds < 1000:
        return f"{milliseconds}ms" if milliseconds else "0s"
    minutes, rest = divmod(milliseconds, 60_000)
    text = f"{rest / 1000:g}s"
    if minutes:
        hours, minutes = divmod(minutes, 60)
        text = f"{hours}h{minutes}m{text}" if hours else f"{minutes}m{text}"
    return text
