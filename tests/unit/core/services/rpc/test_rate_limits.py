"""Rate limits: calls per second of users and tenants."""

import time
from contextvars import copy_context

import pytest

from portico.core.errors import LimitExceeded
from portico.core.services.rpc import rate_limits
from portico.core.services.rpc.rate_limits import RateExceeded, RateLimiter
from portico.model.identity import make_principal
from portico.v1 import rates_pb2

ADA, BOB = (make_principal("acme", user, frozenset(("use",))) for user in ("ada", "bob"))
CAROL = make_principal("globex", "carol", frozenset(("use",)))


def test_a_bucket_empties_and_fills_again(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    limits = RateLimiter(per_tenant=6, per_user=4)
    for _ in range(4):
        limits.count(ADA)
    with pytest.raises(LimitExceeded, match="the user makes more than 4 calls") as caught:
        limits.count(ADA)
    assert caught.value.metadata == {"limit": "user_requests", "retry_after_seconds": "0.25"}
    for _ in range(2):
        limits.count(BOB)
    with pytest.raises(LimitExceeded, match="the tenant"):
        limits.count(BOB)
    limits.count(CAROL)
    now += 1
    for _ in range(4):
        limits.count(ADA)


def test_who_is_refused_takes_nothing_from_the_others_of_its_tenant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 1000.0)
    limits = RateLimiter(per_tenant=6, per_user=4)
    for _ in range(4):
        limits.count(ADA)
    for _ in range(100):
        with pytest.raises(LimitExceeded, match="the user"):
            limits.count(ADA)
    for _ in range(2):
        limits.count(BOB)
    with pytest.raises(LimitExceeded, match="the tenant"):
        limits.count(BOB)


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_limits, "MAX_BUCKETS", 10)
    limits = RateLimiter(per_tenant=None, per_user=0.5)
    for number in range(100):
        limits.count(make_principal("", f"user{number}", frozenset()))
    assert len(limits._buckets) == 10


def told(data: bytes) -> list[tuple[str, int, int, int, float]]:
    """Name, limit, window, remaining calls, and the seconds until the next call is allowed."""
    return [
        (
            each.name,
            each.limit,
            each.window_seconds,
            each.remaining,
            each.available_after.ToNanoseconds() / 1e9,
        )
        for each in rates_pb2.RateLimits.FromString(data).limits
    ]


def test_who_calls_is_told_what_is_left_and_when_there_is_more(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    limits = RateLimiter(per_tenant=0.5, per_user=4)
    assert told(limits.count(ADA)) == [("tenant", 1, 2, 0, 2.0), ("user", 4, 1, 3, 0.25)]
    now += 0.125
    with pytest.raises(RateExceeded) as caught:
        limits.count(ADA)
    assert told(caught.value.told) == [("tenant", 1, 2, 0, 1.875), ("user", 4, 1, 3, 0.125)]
    now += 60
    limits.count(ADA)
    with pytest.raises(RateExceeded) as caught:
        limits.count(ADA)
    assert told(caught.value.told) == [("tenant", 1, 2, 0, 2.0), ("user", 4, 1, 3, 0.25)]
    # A full bucket allows a call now.
    now += 1.9
    with pytest.raises(RateExceeded) as caught:
        limits.count(ADA)
    assert told(caught.value.told)[1] == ("user", 4, 1, 4, 0.0)


def test_without_limits_there_is_nothing_to_tell() -> None:
    limits = RateLimiter(None, None)
    assert limits.count(ADA) == b""
    assert not limits._buckets


def test_a_call_has_what_its_own_caller_is_told() -> None:
    def call() -> tuple[tuple[str, bytes], ...]:
        assert rate_limits.rate_limit_metadata() == ()
        rate_limits.set_rate_limit_metadata(b"told")
        return rate_limits.rate_limit_metadata()

    assert copy_context().run(call) == ((rate_limits.METADATA, b"told"),)
    assert rate_limits.rate_limit_metadata() == ()


def test_who_is_forgotten_first_has_not_called_for_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_limits, "MAX_BUCKETS", 2)
    monkeypatch.setattr(time, "monotonic", lambda: 1000.0)
    limits = RateLimiter(per_tenant=None, per_user=2)
    for who in (ADA, BOB, ADA, CAROL):
        limits.count(who)
    with pytest.raises(LimitExceeded):
        limits.count(ADA)
