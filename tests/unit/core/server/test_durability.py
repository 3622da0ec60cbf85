"""Durability: every result that a call returned exists after refused writes and after a kill of the core."""

import asyncio
import itertools
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from portico.agent import AgentApp, Context, Message
from portico.client import Client
from portico.client.errors import PorticoError as Refused
from portico.client.run_request import QueryOptions
from portico.core.convert.events import ProtoEncoder
from portico.core.errors import RunNotFound, StoreUnavailable
from portico.core.log import committer
from portico.core.server.core_server import CoreServer
from portico.core.settings.core_settings import CoreSettings
from portico.core.stores.open_stores import open_stores
from portico.core.stores.ports.stores import Stores
from portico.v1 import events_pb2, query_pb2

DATABASE = "portico.db"
PATIENCE = 0.05  # seconds that a caller waits for the store
START_REFUSALS = ("STORE_UNAVAILABLE", "IDEMPOTENCY_CONFLICT", "SESSION_BUSY", "DRAINING")
ENDS = (
    events_pb2.RUN_STATUS_COMPLETED,
    events_pb2.RUN_STATUS_CANCELED,
    events_pb2.RUN_STATUS_FAILED,
    events_pb2.RUN_STATUS_INCOMPLETE,
)


def agent() -> AgentApp:
    app = AgentApp("test", on_restart="rerun")

    @app.query
    async def query(msgs: list[Message], context: Context) -> AsyncIterator[object]:
        yield "begun"
        match msgs[-1].text:
            case "ask":
                await context.input_required("Sure?")
            case "wait":
                await asyncio.sleep(60)
            case "child":
                await context.start_run("say")
        yield "done"

    return app


class Faults:
    """Wraps a core's store: some writes are refused, some are made but reported as refused."""

    def __init__(self, stores: Stores, moods: Iterator[str]) -> None:
        self._moods = moods
        self.always = ""  # the fault for all writes from now on, if any
        runs: Any = stores.runs
        database = stores.states._database  # type: ignore[attr-defined]
        runs.commit = self._around(runs.commit)
        runs.delete_all = self._around(runs.delete_all)
        write = database.write

        @asynccontextmanager
        async def faulty() -> AsyncIterator[Any]:
            mood = self.always or next(self._moods)
            self._refuse(mood, "before")
            async with write() as connection:
                yield connection
            self._refuse(mood, "after")

        database.write = faulty

    def _around(self, call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def faulty(*args: Any) -> Any:
            mood = self.always or next(self._moods)
            self._refuse(mood, "before")
            answer = await call(*args)
            self._refuse(mood, "after")
            return answer

        return faulty

    def _refuse(self, mood: str, moment: str) -> None:
        if mood == moment:
            raise StoreUnavailable(f"refused {moment} it was written")


@dataclass
class Told:
    """Results that calls have returned; the latest for each object."""

    runs: dict[str, query_pb2.Run] = field(default_factory=dict)
    named: set[str] = field(default_factory=set)  # runs that a refusal named
    events: dict[str, dict[int, bytes]] = field(default_factory=dict)
    states: dict[int, str] = field(default_factory=dict)
    messages: set[str] = field(default_factory=set)
    steered: set[tuple[str, str]] = field(default_factory=set)  # runs and their steering input
    deleted: set[str] = field(default_factory=set)

    def run(self, run: query_pb2.Run) -> None:
        run_id = run.response.id
        assert run.last_sequence_number >= 0
        before = self.runs.get(run_id)
        if before is not None and before.response.status in ENDS:
            assert run.response.status == before.response.status
        elif run.last_sequence_number >= (-1 if before is None else before.last_sequence_number):
            self.runs[run_id] = run

    def event(self, run_id: str, event: events_pb2.Event) -> None:
        data = event.SerializeToString(deterministic=True)
        assert self.events.setdefault(run_id, {}).setdefault(event.sequence_number, data) == data


async def check(told: Told, url: str) -> None:
    """Checks that a database, as a crash left it, has all returned results."""
    stores = await open_stores(url)
    try:
        for run_id in {*told.runs, *told.named, *told.events} - told.deleted:
            record = await stores.runs.get(run_id)
            chunks = await stores.runs.read(run_id, -1, 1 << 30)
            log = query_pb2.QueryResponse.FromString(b"".join(chunk.data for chunk in chunks)).events
            assert [event.sequence_number for event in log] == list(range(len(log)))
            for number, data in told.events.get(run_id, {}).items():
                assert log[number].SerializeToString(deterministic=True) == data
            if (run := told.runs.get(run_id)) is not None:
                assert run.last_sequence_number < len(log)
                stored = events_pb2.Response.FromString(record.summary)
                if run.response.status in ENDS:
                    assert stored.status == run.response.status
                for message in run.response.output:
                    assert any(event.message.id == message.id for event in log)
        for run_id, text in told.steered:
            if run_id in told.deleted:
                continue
            record = await stores.runs.get(run_id)
            steered = ProtoEncoder().load_steered(record.answers)
            assert text in [message.text for message in steered]
        for run_id in told.deleted:
            with pytest.raises(RunNotFound):
                await stores.runs.get(run_id)
        for number, state in told.states.items():
            assert (await stores.states.get("ada", "s", number)).state == state
        for message_id in told.messages:
            await stores.sessions.message("ada", "m", message_id)
    finally:
        await stores.close()


class Life:
    """One core, from its start until it is killed."""

    def __init__(self, faults: Faults, client: Client, told: Told) -> None:
        self.faults = faults
        self.client = client
        self.told = told
        self._calls: set[asyncio.Task[None]] = set()

    async def do(self, action: tuple[Any, ...], wait: float) -> None:
        """Starts a call and waits for its response for a while."""
        name, *args = action
        if name == "disk":
            (self.faults.always,) = args
            return
        task = asyncio.create_task(self._call(name, getattr(self, f"_{name}")(*args)))
        self._calls.add(task)
        await asyncio.wait({task}, timeout=wait)

    async def leave(self) -> None:
        for task in self._calls:
            task.cancel()
        for result in await asyncio.gather(*self._calls, return_exceptions=True):
            if isinstance(result, Exception):
                raise result

    async def _call(self, name: str, call: Coroutine[Any, Any, None]) -> None:
        try:
            await call
        except Refused as refused:
            if name == "start" and refused.reason not in START_REFUSALS:
                raise
            if refused.reason in ("IDEMPOTENCY_CONFLICT", "SESSION_BUSY"):
                self.told.named.add(refused.metadata["run_id"])

    def _known(self, index: int) -> str:
        known = [run_id for run_id in self.told.runs if run_id not in self.told.deleted]
        return known[index % len(known)] if known else "resp_none"

    async def _start(self, text: str, key: str, session: str, busy: Any) -> None:
        more: QueryOptions = {"user_id": "ada", "session_id": session or None, "if_session_busy": busy}
        if key:
            more["idempotency_key"] = key
        run = await self.client.runs.start(text, **more)
        self.told.run(run)

    async def _get(self, index: int) -> None:
        self.told.run(await self.client.runs.get(self._known(index)))

    async def _list(self) -> None:
        async for run in self.client.runs.list(user_id="ada"):
            self.told.run(run)

    async def _watch(self, index: int) -> None:
        run_id = self._known(index)
        async for event in self.client.runs.watch(run_id, resume_timeout=0.1):
            self.told.event(run_id, event)

    async def _query(self, text: str) -> None:
        stream = self.client.runs.query(text, user_id="ada", background=True)
        async for event in stream:
            self.told.event(stream.run_id, event)

    async def _cancel(self, index: int) -> None:
        self.told.run(await self.client.runs.cancel(self._known(index)))

    async def _resume(self, index: int) -> None:
        await self.client.runs.resume(self._known(index), "yes")

    async def _steer(self, index: int) -> None:
        run_id = self._known(index)
        text = f"told {len(self.told.steered)}"
        await self.client.runs.steer(run_id, text)
        self.told.steered.add((run_id, text))

    async def _delete(self, index: int) -> None:
        run_id = self._known(index)
        await self.client.runs.delete(run_id)
        self.told.deleted.add(run_id)

    async def _state(self, text: str) -> None:
        state = await self.client.states.save({"a": text}, user_id="ada", session_id="s")
        self.told.states[state.round_id] = f'{{"a":"{text}"}}'

    async def _append(self, text: str) -> None:
        try:
            await self.client.sessions.create(session_id="m", user_id="ada")
        except Refused:
            pass
        for message in await self.client.sessions.append_messages("m", text, user_id="ada"):
            self.told.messages.add(message.message.id)


LONG = 3 * PATIENCE
ORDER = ("start", "say", "order-1", "s", "enqueue")
OTHER = ("start", "ask", "order-1", "s", "enqueue")
BESIDE = ("start", "wait", "", "s", "reject")
ASK = ("start", "ask", "", "", "enqueue")
CANCEL, GET, LIST, KILL = ("cancel", 0), ("get", 0), ("list",), ("kill",)
FULL = ("disk", "before")
INDEX = st.integers(0, 5)
TEXT = st.sampled_from(["say", "ask", "wait", "child"])
ACTIONS = st.one_of(
    st.tuples(
        st.just("start"),
        TEXT,
        st.sampled_from(["", "a", "a", "b"]),
        st.sampled_from(["", "s", "s"]),
        st.sampled_from(["reject", "enqueue"]),
    ),
    st.tuples(st.just("query"), TEXT),
    st.tuples(st.sampled_from(["get", "watch", "cancel", "resume", "steer", "delete"]), INDEX),
    st.tuples(st.just("list")),
    st.tuples(st.sampled_from(["state", "append"]), st.sampled_from(["x", "y"])),
    st.tuples(st.just("disk"), st.sampled_from(["", "works", "before", "after"])),
    st.tuples(st.just("kill")),
)
MOODS = st.lists(st.sampled_from(["works", "before", "after"]), min_size=1, max_size=8)
WAIT = st.sampled_from([0.0, 0.01, LONG])


@cache
def empty_database() -> bytes:
    """A new database; creating one takes longer than the rest of the test."""
    with tempfile.TemporaryDirectory() as folder:

        async def make() -> None:
            await (await open_stores(f"sqlite:///{folder}/{DATABASE}")).close()

        asyncio.run(make())
        return (Path(folder) / DATABASE).read_bytes()


async def live(
    folder: Path, told: Told, actions: Iterator[tuple[tuple[Any, ...], float]], moods: Iterator[str]
) -> Path | None:
    """Runs a core on the folder's database; returns the folder as the kill leaves it, or None at the end."""
    async with AsyncExitStack() as closing:
        url = f"sqlite:///{folder}/{DATABASE}"
        server = CoreServer(
            [agent()], CoreSettings(listen=[f"unix:{folder}/core.sock"], store=url, drain_seconds=0)
        )
        await server.start()
        closing.push_async_callback(server.stop)
        engine = server._engine
        engine._limits = replace(engine._limits, store_seconds=PATIENCE)
        faults = Faults(server._stores, moods)
        client = await closing.enter_async_context(Client(server.addresses[0]))
        one = Life(faults, client, told)
        killed = False
        for action, wait in actions:
            if action == ("kill",):
                killed = True
                break
            await one.do(action, wait)
        # No call returns between here and the end of the copy, and no WAL checkpoint moves pages meanwhile.
        left = Path(tempfile.mkdtemp(dir=folder.parent))
        for name in (DATABASE, f"{DATABASE}-wal"):
            if (folder / name).exists():
                shutil.copy(folder / name, left / name)
        known = replace(
            told, runs=dict(told.runs), named=set(told.named), deleted=set(told.deleted),
            events={run: dict(events) for run, events in told.events.items()},
            states=dict(told.states), messages=set(told.messages), steered=set(told.steered),
        )  # fmt: skip
        faults.always = "works"
        await one.leave()
    await check(known, f"sqlite:///{left}/{DATABASE}")
    for name in vars(known):
        setattr(told, name, getattr(known, name))
    return left if killed else None


# No shrinking: an example takes half a second, and is readable as it is.
@settings(
    max_examples=12,
    suppress_health_check=[HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
@example([(FULL, 0.0), (ORDER, LONG), (ORDER, LONG), (LIST, LONG), (KILL, 0.0), (LIST, 0.1)], ["works"])
@example([(FULL, 0.0), (ORDER, 0.0), (OTHER, LONG), (BESIDE, LONG), (KILL, 0.0), (LIST, 0.1)], ["works"])
@example([(ASK, LONG), (FULL, 0.0), (CANCEL, LONG), (GET, LONG), (KILL, 0.0), (GET, 0.1)], ["works"])
@given(st.lists(st.tuples(ACTIONS, WAIT), min_size=1, max_size=15), MOODS)
def test_nothing_that_a_call_told_is_missing_after_a_kill(
    actions: Sequence[tuple[tuple[Any, ...], float]], moods: Sequence[str]
) -> None:
    async def main(folder: Path | None) -> None:
        told = Told()
        left = iter(actions)
        while folder is not None:
            folder = await live(folder, told, left, itertools.cycle(moods))

    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as base:
        patch.setattr(committer, "RETRY_SECONDS", (0.005,))
        first = Path(base) / "first"
        first.mkdir()
        (first / DATABASE).write_bytes(empty_database())
        asyncio.run(main(first))
