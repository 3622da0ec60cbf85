"""Calls per second."""

import time

import pytest

from portico.core.errors import LimitExceeded
from portico.core.identity import principal
from portico.core.services import rates
from portico.core.services.rates import Rates

ADA, BOB = (principal("acme", user, frozenset(("use",))) for user in ("ada", "bob"))
CAROL = principal("globex", "carol", frozenset(("use",)))


def test_a_bucket_empties_and_fills_again(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    limits = Rates(per_tenant=6, per_user=4)
    for _ in range(4):
        limits.count(ADA)
    with pytest.raises(LimitExceeded, match="the user calls more than 4 times") as caught:
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
    limits = Rates(per_tenant=6, per_user=4)
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
    monkeypatch.setattr(rates, "REMEMBERED", 10)
    limits = Rates(per_tenant=None, per_user=0.5)
    for number in range(100):
        limits.count(principal("", f"user{number}", frozenset()))
    assert len(limits._buckets) == 10
