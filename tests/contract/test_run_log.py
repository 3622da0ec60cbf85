import asyncio
from dataclasses import replace

import pytest

from portico.core.errors import RunNotFound, SessionNotFound, StoreUnavailable
from portico.core.stores.ports.stores import (
    Chunk,
    Commit,
    NewMessage,
    NewSession,
    RunFilter,
    RunLog,
    RunRecord,
    Stores,
)
from portico.model.run_status import UNFINISHED_STATUSES


@pytest.fixture
def log(stores: Stores) -> RunLog:
    return stores.runs


def run(
    run_id: str,
    *,
    agent_name: str = "librarian",
    user_id: str = "ada",
    session_id: str = "s1",
    status: str = "in_progress",
    created_at: float = 1.5,
    idempotency_key: str | None = None,
) -> RunRecord:
    return RunRecord(
        run_id=run_id,
        agent_name=agent_name,
        user_id=user_id,
        session_id=session_id,
        status=status,
        created_at=created_at,
        updated_at=created_at,
        last_sequence_number=-1,
        attempt=1,
        background=False,
        idempotency_key=idempotency_key,
        request=b"request\x00\xff",
        summary=b"",
    )


def message(message_id: str, *, session_id: str = "s1", created_at: float = 1.0) -> NewMessage:
    return NewMessage("ada", session_id, message_id, "user", "hello", b"payload", created_at, "r1")


def begun(*messages: NewMessage) -> Commit:
    """A commit of messages and their sessions, like the first commit of a run."""
    keys = dict.fromkeys((message.user_id, message.session_id) for message in messages)
    return Commit(messages=messages, sessions=[NewSession(*key, 1.0) for key in keys])


async def ids(log: RunLog, where: RunFilter, before: tuple[float, str] | None = None, limit: int = 99) -> str:
    return " ".join(record.run_id for record in await log.list(where, before, limit))


async def test_a_run_is_read_as_it_was_written(log: RunLog) -> None:
    record = replace(
        run("r1", idempotency_key="k", session_id="séance 会话"), background=True, answers=b"\x00", attempt=3
    )
    await log.commit(Commit(runs=[record]))
    assert await log.get("r1") == record


async def test_an_unknown_run_is_not_found(log: RunLog) -> None:
    with pytest.raises(RunNotFound) as caught:
        await log.get("nope")
    assert caught.value.metadata == {"run_id": "nope"}
    with pytest.raises(RunNotFound):
        await log.delete("nope")
    assert await log.read("nope", -1, 1000) == []
    assert await log.last("nope") is None


async def test_a_run_is_written_over_what_was_there(log: RunLog) -> None:
    first = run("r1")
    ended = replace(
        first,
        status="completed",
        updated_at=9.5,
        last_sequence_number=7,
        attempt=2,
        summary=b"all",
        answers=b"yes",
    )
    await log.commit(Commit(runs=[first]))
    await log.commit(Commit(runs=[ended]))
    assert await log.get("r1") == ended
    assert await ids(log, RunFilter()) == "r1"


async def test_the_last_record_of_a_run_in_a_commit_counts(log: RunLog) -> None:
    await log.commit(Commit(runs=[run("r1"), replace(run("r1"), status="failed")]))
    assert (await log.get("r1")).status == "failed"


async def test_an_empty_commit_changes_nothing(log: RunLog) -> None:
    await log.commit(Commit())
    assert await ids(log, RunFilter()) == ""


async def test_runs_are_listed_newest_first_and_by_id_at_equal_times(log: RunLog) -> None:
    await log.commit(
        Commit(runs=[run("b"), run("a"), run("c"), run("new", created_at=2), run("old", created_at=1)])
    )
    assert await ids(log, RunFilter()) == "new c b a old"


async def test_pages_of_runs_neither_skip_nor_repeat_at_equal_times(log: RunLog) -> None:
    names = [f"r{number:02}" for number in range(7)]
    await log.commit(Commit(runs=[run(name, created_at=0.1 + 0.2) for name in names]))
    seen: list[str] = []
    before = None
    while page := await log.list(RunFilter(), before, 2):
        seen += [record.run_id for record in page]
        before = page[-1].created_at, page[-1].run_id
    assert seen == sorted(names, reverse=True)


async def test_filters_on_runs_all_apply(log: RunLog) -> None:
    await log.commit(
        Commit(
            runs=[
                run("r1", created_at=1),
                run("r2", created_at=2, user_id="bob"),
                run("r3", created_at=3, agent_name="clerk"),
                run("r4", created_at=4, session_id="s2"),
                run("r5", created_at=5, status="failed"),
            ]
        )
    )
    assert await ids(log, RunFilter(user_id="bob")) == "r2"
    assert await ids(log, RunFilter(agent_name="clerk")) == "r3"
    assert await ids(log, RunFilter(session_id="s2")) == "r4"
    assert await ids(log, RunFilter(statuses=["failed", "queued"])) == "r5"
    assert await ids(log, RunFilter(statuses=["in_progress", "failed", "failed"])) == "r5 r4 r3 r2 r1"
    assert await ids(log, RunFilter(statuses=["in_progress", "failed"]), limit=2) == "r5 r4"
    assert (
        await ids(log, RunFilter(statuses=["in_progress", "failed"], agent_name="librarian")) == "r5 r4 r2 r1"
    )
    assert await ids(log, RunFilter(statuses=["failed", "queued"], user_id="ada")) == "r5"
    assert await ids(log, RunFilter(user_id="ada", agent_name="librarian", session_id="s1")) == "r5 r1"
    assert await ids(log, RunFilter(user_id="' OR TRUE --")) == ""


async def test_runs_are_listed_by_when_they_took_their_status(log: RunLog) -> None:
    times = {"r1": 9.0, "r2": 2.0, "r3": 5.0, "r4": 5.0}
    made = [replace(run(name, created_at=1), updated_at=time) for name, time in times.items()]
    await log.commit(Commit(runs=[*made, replace(run("r5", agent_name="clerk"), updated_at=7.0)]))
    everybody = RunFilter(agent_name="librarian")

    async def listed(where: RunFilter, before: tuple[float, str] | None = None, limit: int = 99) -> str:
        found = await log.list(where, before, limit, by_status=True)
        return " ".join(record.run_id for record in found)

    assert await listed(RunFilter()) == "r1 r5 r4 r3 r2"
    assert await listed(everybody, limit=2) == "r1 r4"
    assert await listed(everybody, before=(5.0, "r4")) == "r3 r2"
    assert await listed(RunFilter(status_from=5.0)) == "r1 r5 r4 r3"
    assert await listed(RunFilter(statuses=["failed", "in_progress"], status_from=6.0)) == "r1 r5"
    await log.commit(Commit(runs=[replace(made[1], updated_at=10.0, status="failed")]))
    assert await listed(everybody) == "r2 r1 r4 r3"


async def test_runs_are_counted(log: RunLog) -> None:
    await log.commit(
        Commit(
            runs=[
                run("r1", created_at=1),
                run("r2", created_at=2, agent_name="clerk"),
                run("r3", created_at=3, status="failed"),
                replace(run("r4"), ephemeral="run"),
            ]
        )
    )
    assert await log.count(RunFilter()) == 3
    assert await log.count(RunFilter(agent_name="librarian", statuses=["failed", "queued"])) == 1
    assert await log.count(RunFilter(status_from=2.0)) == 2
    assert await log.count(RunFilter(user_id="nobody")) == 0


async def test_times_of_a_filter_are_half_open(log: RunLog) -> None:
    await log.commit(Commit(runs=[run(f"r{time}", created_at=time) for time in (1, 2, 3)]))
    assert await ids(log, RunFilter(created_from=2)) == "r3 r2"
    assert await ids(log, RunFilter(created_until=2)) == "r1"
    assert await ids(log, RunFilter(created_from=2, created_until=3), before=(2, "r3")) == "r2"


async def test_unfinished_runs_are_those_that_have_not_ended_as_they_came_whatever_the_date(
    log: RunLog,
) -> None:
    live = list(UNFINISHED_STATUSES)
    statuses = [*live, "completed", "canceled", "failed", "rejected", "incomplete"]
    await log.commit(
        Commit(runs=[run(status, status=status, created_at=-place) for place, status in enumerate(statuses)])
    )
    assert [record.run_id for record in await log.unfinished()] == live
    await log.commit(Commit(runs=[replace(await log.get("queued"), status="completed")]))
    assert "queued" not in {record.run_id for record in await log.unfinished()}


async def test_a_run_is_found_by_its_users_idempotency_key(log: RunLog) -> None:
    await log.commit(Commit(runs=[run("r1", idempotency_key="k"), run("r2")]))
    found = await log.get_by_idempotency_key("ada", "k")
    assert found is not None
    assert found.run_id == "r1"
    assert await log.get_by_idempotency_key("bob", "k") is None
    assert await log.get_by_idempotency_key("ada", "") is None


async def test_a_key_that_is_used_twice_fails_no_commit_and_means_the_first_run(log: RunLog) -> None:
    await log.commit(Commit(runs=[run("r2", idempotency_key="auto:k", created_at=2)]))
    await log.commit(Commit(runs=[run("r1", idempotency_key="auto:k", created_at=3), run("other")]))
    found = await log.get_by_idempotency_key("ada", "auto:k")
    assert found is not None
    assert found.run_id == "r2"
    assert (await log.get("other")).run_id == "other"


async def test_recent_keys_have_the_prefix_and_are_recent(log: RunLog) -> None:
    await log.commit(
        Commit(
            runs=[
                run("r1", idempotency_key="auto:1", created_at=1),
                run("r2", idempotency_key="auto:2", created_at=2),
                run("r3", idempotency_key="AUTO:3", created_at=3),
                run("r4", created_at=4),
                run("r5", idempotency_key="auto:5", created_at=5),
            ]
        )
    )
    assert [record.run_id for record in await log.recent_keys("auto:", 2)] == ["r2", "r5"]
    assert await log.recent_keys("auto_", 0) == []


async def test_chunks_are_read_in_order(log: RunLog) -> None:
    chunks = [Chunk("r1", first, first + 1, bytes([first])) for first in (0, 2, 4)]
    await log.commit(Commit(chunks=[chunks[0], Chunk("r2", 0, 9, b"other"), chunks[1]]))
    await log.commit(Commit(chunks=[chunks[2]]))
    assert await log.read("r1", -1, 1000) == chunks
    assert await log.last("r1") == chunks[2]


@pytest.mark.parametrize(
    ("after", "firsts"),
    [(-1, [0, 3, 6]), (0, [0, 3, 6]), (1, [0, 3, 6]), (2, [3, 6]), (7, [6]), (8, []), (99, [])],
)
async def test_a_read_begins_with_the_chunk_that_holds_the_next_event(
    log: RunLog, after: int, firsts: list[int]
) -> None:
    await log.commit(Commit(chunks=[Chunk("r1", first, first + 2, b"x") for first in (0, 3, 6)]))
    assert [chunk.first for chunk in await log.read("r1", after, 1000)] == firsts


async def test_a_read_behind_a_gap_begins_where_the_log_does(log: RunLog) -> None:
    await log.commit(Commit(chunks=[Chunk("r1", 5, 6, b"x"), Chunk("r1", 7, 7, b"x")]))
    assert [chunk.first for chunk in await log.read("r1", -1, 1000)] == [5, 7]
    assert [chunk.first for chunk in await log.read("r1", 3, 1000)] == [5, 7]


@pytest.mark.parametrize(
    ("max_bytes", "count"), [(0, 1), (1, 1), (10, 1), (19, 1), (20, 2), (25, 2), (30, 3)]
)
async def test_a_read_stops_at_its_bytes_but_brings_at_least_one_chunk(
    log: RunLog, max_bytes: int, count: int
) -> None:
    await log.commit(Commit(chunks=[Chunk("r1", place, place, b"x" * 10) for place in range(3)]))
    assert len(await log.read("r1", -1, max_bytes)) == count


async def test_a_huge_chunk_is_kept_whole(log: RunLog) -> None:
    huge = bytes(range(256)) * 4096 * 16
    await log.commit(Commit(chunks=[Chunk("r1", 0, 0, huge), Chunk("r1", 1, 1, b"")]))
    assert await log.read("r1", -1, 1) == [Chunk("r1", 0, 0, huge)]
    assert await log.read("r1", 0, 1) == [Chunk("r1", 1, 1, b"")]


async def test_a_commit_of_thousands_is_one(stores: Stores) -> None:
    # More rows of each kind than fit into one statement.
    await stores.runs.commit(
        Commit(
            runs=[run(f"r{number}") for number in range(3000)],
            chunks=[Chunk("r1", number, number, b"x") for number in range(9000)],
            messages=[message(f"m{number}", session_id=f"s{number}") for number in range(7000)],
            sessions=[NewSession("ada", f"s{number}", 1.0) for number in range(7000)],
        )
    )
    assert len(await stores.runs.list(RunFilter(), None, 10_000)) == 3000
    assert len(await stores.runs.read("r1", -1, 100_000)) == 9000
    assert len(await stores.sessions.list("ada", None, 10_000)) == 7000


async def test_a_commit_that_is_repeated_is_harmless(stores: Stores) -> None:
    commit = replace(begun(message("m1"), message("m2")), runs=[run("r1")], chunks=[Chunk("r1", 0, 1, b"x")])
    await stores.runs.commit(commit)
    await stores.runs.commit(commit)
    assert await stores.runs.read("r1", -1, 1000) == [Chunk("r1", 0, 1, b"x")]
    assert (await stores.sessions.get("ada", "s1")).message_count == 2


async def test_a_message_that_the_session_has_is_dropped_and_the_rest_is_written(stores: Stores) -> None:
    await stores.runs.commit(begun(message("m1")))
    await stores.runs.commit(Commit([run("r1")], (), [message("m1"), message("m2"), message("m2")]))
    kept = await stores.sessions.messages("ada", "s1", None, 10, False)
    assert [stored.message_id for stored in kept] == ["m1", "m2"]
    assert (await stores.runs.get("r1")).run_id == "r1"


async def test_a_commit_makes_sessions_and_touches_those_of_its_messages(stores: Stores) -> None:
    messages = (message("m1", created_at=3), message("m2", created_at=5), message("x", session_id="s2"))
    await stores.runs.commit(begun(*messages))
    session = await stores.sessions.get("ada", "s1")
    assert (session.created_at, session.updated_at, session.message_count) == (1, 5, 2)
    await stores.runs.commit(Commit(messages=[message("m3", created_at=4)]))
    assert (await stores.sessions.get("ada", "s1")).updated_at == 5
    assert (await stores.sessions.get("ada", "s2")).message_count == 1


async def test_a_session_that_is_there_is_not_made_again(stores: Stores) -> None:
    session = await stores.sessions.create("ada", "s1", '{"a": 1}')
    await stores.runs.commit(Commit(sessions=[NewSession("ada", "s1", 5.0)]))
    assert await stores.sessions.get("ada", "s1") == session


async def test_messages_do_not_bring_a_deleted_session_back(stores: Stores) -> None:
    await stores.runs.commit(begun(message("m1"), message("m1", session_id="s2")))
    await stores.sessions.delete("ada", "s1")
    await stores.runs.commit(Commit([run("r1")], (), [message("m2"), message("m2", session_id="s2")]))
    with pytest.raises(SessionNotFound):
        await stores.sessions.get("ada", "s1")
    await stores.sessions.create("ada", "s1", "")
    assert not await stores.sessions.messages("ada", "s1", None, 10, False)
    assert (await stores.sessions.get("ada", "s2")).message_count == 2
    assert (await stores.runs.get("r1")).run_id == "r1"


async def test_deleting_a_run_takes_its_events_and_its_key_but_not_its_messages(stores: Stores) -> None:
    log = stores.runs
    await log.commit(
        Commit(
            [run("r1", idempotency_key="k"), run("r2")],
            [Chunk("r1", 0, 0, b"x"), Chunk("r2", 0, 0, b"y")],
            [message("m1")],
            [NewSession("ada", "s1", 1.0)],
        )
    )
    await log.delete("r1")
    with pytest.raises(RunNotFound):
        await log.get("r1")
    assert await log.read("r1", -1, 10) == []
    assert await log.last("r1") is None
    assert await log.get_by_idempotency_key("ada", "k") is None
    assert await ids(log, RunFilter()) == "r2"
    assert await log.last("r2") == Chunk("r2", 0, 0, b"y")
    assert (await stores.sessions.get("ada", "s1")).message_count == 1


async def test_what_a_commit_wrote_is_read_as_soon_as_it_returns(log: RunLog) -> None:
    for number in range(50):
        await log.commit(Commit(chunks=[Chunk("r1", number, number, b"x")]))
        last = await log.last("r1")
        assert last is not None
        assert last.first == number


async def test_commits_and_reads_at_the_same_time_do_not_disturb_each_other(stores: Stores) -> None:
    async def write(name: str) -> None:
        for number in range(40):
            await stores.runs.commit(
                Commit([run(name)], [Chunk(name, number, number, b"x")], [message(f"{name}-{number}")])
            )

    async def read(name: str) -> None:
        seen = -1
        while seen < 39:
            for chunk in await stores.runs.read(name, seen, 5):
                assert chunk.first == seen + 1
                seen = chunk.last
            await asyncio.sleep(0)

    async def save(name: str) -> None:
        for _ in range(20):
            await stores.states.save(name, "s", None, "{}", None)

    await stores.sessions.create("ada", "s1", "")
    names = [f"r{number}" for number in range(5)]
    await asyncio.gather(*(task(name) for name in names for task in (write, read, save)))
    assert (await stores.sessions.get("ada", "s1")).message_count == 200


async def test_a_closed_log_is_unavailable_and_closing_again_is_harmless(stores: Stores) -> None:
    await stores.close()
    await stores.close()
    with pytest.raises(StoreUnavailable):
        await stores.runs.commit(Commit(runs=[run("r1")]))
    with pytest.raises(StoreUnavailable):
        await stores.runs.get("r1")


async def test_ephemeral_runs_are_not_listed_and_are_told_when_they_have_ended(log: RunLog) -> None:
    kept, live, ended = run("r1"), run("r2"), run("r3")
    live = replace(live, status="in_progress", ephemeral="run")
    ended = replace(ended, status="completed", ephemeral="session")
    await log.commit(Commit(runs=[kept, live, ended]))
    assert await ids(log, RunFilter()) == "r1"
    assert await ids(log, RunFilter(statuses=["completed", "in_progress"])) in ("r1", "")
    assert await log.get("r3") == ended
    assert await log.ephemeral_leftovers() == [ended]
    await log.delete("r3")
    assert await log.ephemeral_leftovers() == []


async def test_many_are_deleted_at_once(log: RunLog) -> None:
    await log.commit(Commit(runs=[run("r1"), run("r2"), run("r3")], chunks=[Chunk("r1", 0, 0, b"a")]))
    assert await log.delete_all(["r1", "nope", "r3"]) == 2
    assert await log.read("r1", -1, 1000) == []
    assert await ids(log, RunFilter()) == "r2"
    assert await log.delete_all(["r1"]) == 0


async def test_all_runs_of_a_user_are_found_ephemeral_ones_too(log: RunLog) -> None:
    await log.commit(Commit(runs=[run("r1"), replace(run("r2"), ephemeral="run"), run("r3", user_id="bob")]))
    assert sorted(await log.of_user("ada", 10)) == ["r1", "r2"]
    assert len(await log.of_user("ada", 1)) == 1
    assert await log.of_user("nobody", 10) == []


async def test_what_ended_before_a_time_is_found(log: RunLog) -> None:
    states = ("completed", "failed", "canceled", "incomplete", "rejected")
    over = [run(f"r-{status}", status=status, created_at=5.0) for status in states]
    await log.commit(Commit(runs=[*over, *(run(status, status=status) for status in UNFINISHED_STATUSES)]))
    await log.commit(Commit(runs=[replace(run("slow", status="completed", created_at=1.0), updated_at=9.0)]))
    assert await log.ended(5.0, 10) == []
    assert sorted(await log.ended(5.5, 10)) == sorted(record.run_id for record in over)
    assert len(await log.ended(5.5, 2)) == 2
    assert "slow" in await log.ended(9.5, 10)
