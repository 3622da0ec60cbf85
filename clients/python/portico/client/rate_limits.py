"""What a core tells of the limits on the calls of a tenant and a user, with each call."""

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
    """A limit, and what was left of it when the call was counted."""

    name: str  # whose calls are counted: tenant or user
    limit: int  # calls in a window
    window_seconds: int
    remaining: int  # calls that may be made at once
    available_seconds: float  # until there is room for one more


Observer: TypeAlias = Callable[[Sequence[RateLimit]], None]
_observer: ContextVar[Observer | None] = ContextVar("portico rate limits", default=None)


def observe(observer: Observer) -> None:
    """For the rest of this task, and tasks that it starts: call it with what the core tells of the limits.
    It is called in the step that brings that, must not wait, and must raise nothing."""
    _observer.set(observer)


@contextmanager
def observing(observer: Observer) -> Iterator[None]:
    """The same for the calls that are made within it."""
    token = _observer.set(observer)
    try:
        yield
    finally:
        _observer.reset(token)


def observer() -> Observer | None:
    """Who is to be told of calls that are made now."""
    return _observer.get()


def from_metadata(metadata: Iterable[tuple[str, str | bytes]] | None, told: Observer | None) -> None:
    """Tell an observer what a call's metadata says."""
    if told is None:
        return
    for name, value in metadata or ():
        if name == METADATA and isinstance(value, bytes):
            with suppress(DecodeError):  # what is no such message says nothing
                told(limits_of(rates_pb2.RateLimits.FromString(value)))


def limits_of(message: rates_pb2.RateLimits) -> list[RateLimit]:
    """The limits in a message."""
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
