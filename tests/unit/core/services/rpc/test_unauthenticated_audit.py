"""Unauthenticated callers can't fill a disk with the audit lines of their calls."""

import json
from typing import Any

import pytest

from portico.core.services.rpc import unauthenticated_audit
from portico.core.services.rpc.unauthenticated_audit import UnauthenticatedCallLog


def call(address: str, method: str = "GetRun", outcome: str = "UNAUTHENTICATED") -> dict[str, object]:
    return {"method": method, "outcome": outcome, "caller": None, "address": address}


class Lines(list[bytes]):
    """The lines that were written."""

    @property
    def parsed(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self]


def test_the_first_call_has_its_line_and_the_rest_have_one_together() -> None:
    lines = Lines()
    counting = UnauthenticatedCallLog(lines.append)
    for number in range(1000):
        counting.note(call("192.0.2.1", "GetRun" if number % 4 else "GetCaller"))
    counting.note(call("192.0.2.2"))
    counting.note(call("192.0.2.1", outcome="UNAVAILABLE"))
    assert [(line["address"], line["outcome"]) for line in lines.parsed] == [
        ("192.0.2.1", "UNAUTHENTICATED"),
        ("192.0.2.2", "UNAUTHENTICATED"),
        ("192.0.2.1", "UNAVAILABLE"),
    ]
    counting.end()
    [repeated] = lines.parsed[3:]
    assert repeated.pop("since") < repeated.pop("time")
    assert repeated == {
        "action": "repeat",
        "outcome": "UNAUTHENTICATED",
        "caller": None,
        "address": "192.0.2.1",
        "count": 999,
        "methods": {"GetCaller": 249, "GetRun": 750},
    }
    counting.note(call("192.0.2.1"))  # in the next minute
    assert len(lines) == 5
    counting.end()
    assert len(lines) == 5


def test_a_minute_ends_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unauthenticated_audit, "SECONDS", 0.01)
    lines = Lines()
    counting = UnauthenticatedCallLog(lines.append)
    counting.note(call("192.0.2.1"))
    counting.note(call("192.0.2.1"))
    timer = counting._timer
    assert timer is not None
    timer.join()
    assert any(line.get("count") for line in lines.parsed) or len(lines) == 2


def test_however_many_addresses_there_are_the_lines_are_few() -> None:
    lines = Lines()
    counting = UnauthenticatedCallLog(lines.append)
    for number in range(100_000):
        counting.note(call(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"))
    counting.end()
    assert len(lines) <= unauthenticated_audit.MAX_GROUPS + 2
    others = lines.parsed[-1]
    assert (others["address"], others["count"]) == (
        unauthenticated_audit.OTHERS,
        100_000 - unauthenticated_audit.MAX_GROUPS - 1,
    )


def test_the_addresses_of_one_ipv6_network_are_one() -> None:
    lines = Lines()
    counting = UnauthenticatedCallLog(lines.append)
    for number in range(1000):
        counting.note(call(f"2001:db8::{number:x}"))
    counting.note(call("2001:db8:0:1::1"))
    counting.end()
    assert [line["address"] for line in lines.parsed] == ["2001:db8::0", "2001:db8:0:1::1", "2001:db8::/64"]
