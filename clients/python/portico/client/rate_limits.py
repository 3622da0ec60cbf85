"""The rate limits of a tenant and a user, which a core reports with each call."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TypeAlias

from google.protobuf.message import DecodeError

from portico.v1 import rates_pb2

METADATA = "portico-rate-limits-bin"


@dataclass(frozen=True, slots=True)
class RateLimit:
    """A rate limit and its remaining calls after the current call was counted."""

    name: str  # the owner of the limit: tenant or user
    limit: int  # calls per window
    window_seconds: int
    remaining: int  # calls that may be made immediately
    available_seconds: float  # seconds until the next call is allowed


Observer: TypeAlias = Callable[[Sequence[RateLimit]], None]
_observer: ContextVar[Observer | None] = ContextVar("portico rate limits", default=None)


def observe(observer: Observer) -> None:
    """Sets the observer of rate limits for the current task and for the tasks that it starts.

    The observer is called in the step that receives the limits; it must not block and must not raise.
    """
    _observer.set(observer)


@contextmanager
def observing(observer: Observer) -> Iterator[None]:
    """Sets the observer of rate limits for calls that are made inside the block."""
    token = _observer.set(observer)
    try:
        yield
    finally:
        _observer.reset(token)


def observer() -> Observer | None:
    """Returns the observer for calls that are made now."""
    return _observer.get()


def from_metadata(metadata: Iterable[tuple[str, str | bytes]] | None, told: Observer | None) -> None:
    """Passes the rate limits in a call's metadata to the observer."""
    if told is None:
        return
    for name, value in metadata or ():
        if name == METADATA and isinstance(value, bytes):
            with suppress(DecodeError):  # a malformed message is ignored
                told(limits_of(rates_pb2.RateLimits.FromString(value)))


def limits_of(message: rates_pb2.RateLimits) -> list[RateLimit]:
    """Returns the limits in a message."""
    return [
        RateLimit(
            one.name,
            one.limit,
            one.window_seconds,
            one.remaining,
            one.available_after.seconds + one.available_after.nanos / 1e9,
        )
        for one in message.limits
    ]
