"""Claims on push configs: none is lost, held twice at once, or delivered again from the start."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from portico.core.services.push_claims import PushClaimer, PushClaims
from portico.core.stores.ports.push_configs import PushRecord

Change = tuple[list[tuple[str, str, int]], list[tuple[str, str]]]


def config(run_id: str = "r", config_id: str = "c", delivered: int = -1, revision: str = "v1") -> PushRecord:
    return PushRecord(run_id, config_id, "https://e.org", "", "", "", delivered, False, 1.0, revision, "")


@pytest.fixture
def claims() -> PushClaims:
    return PushClaims()


class Told:
    """The changes that one claimer receives, step by step."""

    def __init__(self, claimer: PushClaimer) -> None:
        self._changes: AsyncIterator[tuple[list[PushRecord], list[tuple[str, str]]]] = claimer.changes()

    async def next(self) -> Change:
        given, removed = await anext(self._changes)
        places = [(record.run_id, record.config_id, record.delivered) for record in given]
        return sorted(places), sorted(removed)


async def test_who_takes_over_goes_on_behind_what_was_delivered(claims: PushClaims) -> None:
    claims.add(config())
    with claims.claiming() as first:
        assert await Told(first).next() == ([("r", "c", -1)], [])
        for number in (3, 7, 5):
            claims.record_delivery(("r", "c"), "v1", number, ended=False)
    with claims.claiming() as second:
        assert await Told(second).next() == ([("r", "c", 7)], [])


async def test_an_earlier_revision_moves_no_cursor_and_ends_nothing(claims: PushClaims) -> None:
    claims.add(config())
    claims.add(config(revision="v2"))
    claims.record_delivery(("r", "c"), "v1", 9, ended=False)
    claims.record_delivery(("r", "c"), "v1", 9, ended=True)
    claims.record_delivery(("r", "nobody"), "v1", 9, ended=True)
    with claims.claiming() as claimer:
        assert await Told(claimer).next() == ([("r", "c", -1)], [])


async def test_what_has_ended_is_nobodys(claims: PushClaims) -> None:
    claims.add(config())
    with claims.claiming() as first:
        claims.record_delivery(("r", "c"), "v1", 9, ended=True)
        assert first.held == set()
    with claims.claiming() as second:
        assert await Told(second).next() == ([], [])


async def test_what_the_store_has_replaces_nothing_that_is_known(claims: PushClaims) -> None:
    claims.add(config(delivered=4, revision="v2"))
    claims.add(config(), known=True)
    claims.add(config("other"), known=True)
    with claims.claiming() as claimer:
        assert await Told(claimer).next() == ([("other", "c", -1), ("r", "c", 4)], [])


async def test_what_is_deleted_before_it_was_told_is_not_given(claims: PushClaims) -> None:
    with claims.claiming() as claimer:
        told = Told(claimer)
        assert await told.next() == ([], [])
        claims.add(config())
        claims.remove(("r", "c"))
        assert await told.next() == ([], [("r", "c")])
        claims.remove(("r", "c"))
        claims.add(config(delivered=2))
        claims.remove(("r", "c"))
        claims.add(replace(config(delivered=3), revision="v3"))
        assert await told.next() == ([("r", "c", 3)], [])


async def test_configs_of_deleted_runs_are_taken_from_all(claims: PushClaims) -> None:
    with claims.claiming() as one, claims.claiming() as two:
        for number in range(4):
            claims.add(config(f"r{number}"))
        assert (len(one.held), len(two.held)) == (2, 2)
        claims.forget({"r0", "r1", "r3"})
        assert one.held | two.held == {("r2", "c")}
    with claims.claiming() as three:
        assert await Told(three).next() == ([("r2", "c", -1)], [])


async def test_who_leaves_leaves_its_own_to_the_others(claims: PushClaims) -> None:
    with claims.claiming() as one:
        claims.add(config("r1"))
        with claims.claiming() as two:
            claims.add(config("r2"))
            assert (one.held, two.held) == ({("r1", "c")}, {("r2", "c")})
        assert one.held == {("r1", "c"), ("r2", "c")}


async def test_who_is_cut_is_told_nothing_more(claims: PushClaims) -> None:
    with claims.claiming() as claimer:
        told = Told(claimer)
        await told.next()
        claims.add(config())
        claimer.cut()
        with pytest.raises(StopAsyncIteration):
            await told.next()
