"""Opening a query: the run's owner, its session, and the events that the caller reads."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from typing import Any

import pytest
from support.agent_calls import calling
from support.engine import read

from portico.agent import AgentApp, Context, Message
from portico.core.convert.events import ProtoEncoder
from portico.core.errors import CursorAhead, InvalidArgument, PermissionDenied, RunNotFound, Unauthenticated
from portico.core.execution.execution import Execution
from portico.core.hosts.local.local_host import LocalHost
from portico.core.log.reader import LogReader
from portico.core.runs.run_engine import RunEngine
from portico.core.services.rpc.current_principal import ANONYMOUS
from portico.core.services.run_readers import (
    admit_child,
    admit_continuation,
    open_log_reader,
    open_run_reader,
    to_run_request,
    wait_reader,
)
from portico.core.stores.open_stores import open_stores
from portico.core.stores.ports.stores import Stores
from portico.model.identity import UNAUTHENTICATED_OPERATOR, make_principal, owner_key
from portico.v1 import events_pb2
from portico.v1 import query_pb2 as pb

ADA = make_principal("acme", "ada", frozenset(("use",)))
BOB = make_principal("acme", "bob", frozenset(("use",)))
BACK_END = make_principal("acme", "service", frozenset(("act-as",)))


@pytest.fixture
async def stores() -> AsyncIterator[Stores]:
    stores = await open_stores("memory://")
    yield stores
    await stores.close()


@pytest.fixture
async def engine(stores: Stores) -> AsyncIterator[RunEngine]:
    app = AgentApp("test")

    @app.query
    async def query(msgs: list[Message], context: Context) -> Any:
        yield msgs[-1].text
        if msgs[-1].text == "wait":
            await asyncio.sleep(600)

    engine = RunEngine(LocalHost([app]), stores, ProtoEncoder())
    await engine.start()
    yield engine
    await engine.stop()


def query(text: str = "say", user_id: str = "", **more: Any) -> pb.QueryRequest:
    made = pb.QueryRequest(**more)
    made.request.user_id = user_id
    made.request.input.add(role=events_pb2.ROLE_USER).content.add(text=text)
    return made


def watch(run_id: str, after: int | None = None) -> pb.WatchRunRequest:
    request = pb.WatchRunRequest(run_id=run_id)
    if after is not None:
        request.after_sequence_number = after
    return request


async def ended(engine: RunEngine, asked: pb.QueryRequest) -> events_pb2.Response:
    """The last event of a run that is read from its first event."""
    events = await asyncio.wait_for(read(await wait_reader(open_run_reader(engine, asked))), 30)
    assert [event.sequence_number for event in events] == list(range(len(events)))
    return events[-1].response


async def waiting(engine: RunEngine, user_id: str = "", **more: Any) -> str:
    """The id of a run that keeps executing."""
    reader = await wait_reader(open_run_reader(engine, query("wait", user_id, background=True, **more)))
    live = engine._live[reader.run_id].run
    await live.wait_published(0)
    async with asyncio.timeout(30):
        while not engine._live[reader.run_id].started:
            await asyncio.sleep(0)
    reader.close()
    return reader.run_id


def test_a_run_is_its_callers_whatever_the_request_says() -> None:
    with calling(UNAUTHENTICATED_OPERATOR):
        assert to_run_request(query(user_id="ada")).owner == "ada"
        start = to_run_request(query())
        assert start.owner == start.request.session_id
        assert to_run_request(query(), background=True).background
    with calling(ADA):
        for said in ("", "ada"):
            start = to_run_request(query(user_id=said))
            assert (start.owner, start.request.user_id) == (owner_key("acme", "ada"), "ada")
        with pytest.raises(PermissionDenied) as caught:
            to_run_request(query(user_id="bob"))
        assert caught.value.metadata == {"field": "request.user_id"}
    with calling(BACK_END):
        assert to_run_request(query(user_id="bob")).owner == owner_key("acme", "bob")
    with calling(ANONYMOUS), pytest.raises(Unauthenticated):
        to_run_request(query())


async def test_most_queries_are_open_at_once_and_a_key_is_looked_up_first(engine: RunEngine) -> None:
    with calling(UNAUTHENTICATED_OPERATOR):
        plain = open_run_reader(engine, query())
        assert isinstance(plain, LogReader)
        keyed = open_run_reader(engine, query(idempotency_key="k"))
        assert isinstance(keyed, Awaitable)
        first = await keyed
        events = await read(first)
        again = open_run_reader(engine, query(idempotency_key="k"))
        assert (await wait_reader(again)).run_id == first.run_id
        assert await read(await wait_reader(open_run_reader(engine, query(idempotency_key="k")))) == events
        plain.close()


async def test_a_repeat_that_memory_knows_is_read_from_its_first_event(engine: RunEngine) -> None:
    with calling(UNAUTHENTICATED_OPERATOR):
        asked = query("wait", idempotency_key="auto:1", background=True)
        first = await wait_reader(open_run_reader(engine, asked))
        run = engine._live[first.run_id].run
        await run.wait_published(2)
        assert not engine.needs_store(
            to_run_request(query("wait", idempotency_key="auto:1", background=True))
        )
        again = await wait_reader(
            open_run_reader(engine, query("wait", idempotency_key="auto:1", background=True))
        )
        assert (again.run_id, again.cursor) == (first.run_id, -1)


async def test_a_run_continues_ones_own_and_nobody_elses(engine: RunEngine) -> None:
    with calling(ADA):
        first = await ended(engine, query("one"))
        second = await ended(engine, query("two", previous_run_id=first.id))
        assert (second.session_id, second.user_id) == (first.session_id, "ada")
        for option in ("ephemeral", "fork_session"):
            asked = query("three", previous_run_id=second.id)
            setattr(asked, option, True)
            apart = await ended(engine, asked)
            assert apart.session_id != first.session_id
        with pytest.raises(PermissionDenied):
            await admit_continuation(engine, query("x", "bob", previous_run_id=second.id))
        elsewhere = query("x", previous_run_id=second.id)
        elsewhere.request.session_id = "another"
        with pytest.raises(InvalidArgument):
            await admit_continuation(engine, elsewhere)
        started = await admit_continuation(engine, query("four", previous_run_id=second.id), background=True)
        assert isinstance(started, Execution)
        assert started.run.start.background
    with calling(BOB), pytest.raises(RunNotFound):
        await admit_continuation(engine, query("x", previous_run_id=first.id))


async def test_a_message_before_which_a_run_continues_is_left_out(engine: RunEngine, stores: Stores) -> None:
    with calling(ADA):
        first = await ended(engine, query("one"))
        owner = owner_key("acme", "ada")
        [said, *_] = await stores.sessions.messages(owner, first.session_id, None, 9, False)
        asked = query("two", previous_run_id=first.id, fork_session=True, before_message_id=said.message_id)
        second = await ended(engine, asked)
        kept = await stores.sessions.messages(owner, second.session_id, None, 9, False)
        assert len(kept) == 2


async def test_a_child_is_its_parents_owners_and_kept_as_long(engine: RunEngine) -> None:
    with calling(ADA):
        parent = await waiting(engine)
        hidden = await waiting(engine, ephemeral=True)
        child = await ended(engine, query(parent_run_id=parent))
        assert (child.user_id, child.parent_run_id) == ("ada", parent)
        for above, ephemeral in ((parent, False), (hidden, True)):
            launched = await admit_child(engine, query("wait", parent_run_id=above), background=True)
            assert isinstance(launched, Execution)
            start = launched.run.start
            assert (bool(start.ephemeral), start.background) == (ephemeral, True)
            assert start.owner == owner_key("acme", "ada")
        with pytest.raises(PermissionDenied):
            await admit_child(engine, query("x", "bob", parent_run_id=parent))
        own = await admit_child(engine, query("wait", "ada", parent_run_id=parent, ephemeral=True))
        assert isinstance(own, Execution)
        assert own.run.start.ephemeral
    with calling(BACK_END), pytest.raises(InvalidArgument) as caught:
        await admit_child(engine, query("x", "bob", parent_run_id=parent))
    assert caught.value.metadata["field"] == "request.user_id"
    with calling(BOB), pytest.raises(RunNotFound):
        await admit_child(engine, query("x", parent_run_id=parent))


async def test_a_live_run_is_watched_at_once_and_one_that_ended_from_the_store(engine: RunEngine) -> None:
    with calling(ADA):
        live = await waiting(engine)
        reader = open_log_reader(engine, watch(live))
        assert isinstance(reader, LogReader)
        assert reader.cursor == -1
        behind = open_log_reader(engine, watch(live, 1))
        assert isinstance(behind, LogReader)
        assert behind.cursor == 1
        with pytest.raises(CursorAhead):
            open_log_reader(engine, watch(live, 1_000))
        gone = await ended(engine, query())
        later = open_log_reader(engine, watch(gone.id, 0))
        assert isinstance(later, Awaitable)
        events = await read(await later)
        assert [event.sequence_number for event in events] == list(range(1, len(events) + 1))
        for run_id, after in (("", None), (live, -2), (live, -(2**31))):
            with pytest.raises(InvalidArgument):
                open_log_reader(engine, watch(run_id, after))
    for who in (BOB, make_principal("globex", "ada", frozenset(("use",)))):
        with calling(who):
            for run_id in (live, gone.id, "resp_nobody"):
                with pytest.raises(RunNotFound):
                    await wait_reader(open_log_reader(engine, watch(run_id)))
    with calling(make_principal("globex", "gateway", frozenset(("deliver",)))):
        for run_id in (live, gone.id):
            assert (await wait_reader(open_log_reader(engine, watch(run_id)))).run_id == run_id
