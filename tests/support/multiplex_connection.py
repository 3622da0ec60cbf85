"""A core's multiplexed connection with all layers below it, on an event loop whose clock the test advances.

The sent frames are checked as they arrive: every event of each stream once and in order, and never more
than its window.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from support.engine import request

from portico.agent import AgentApp, Context, Message, Role, TextContent
from portico.core.convert.events import ProtoEncoder
from portico.core.execution.execution import Execution
from portico.core.hosts.local.local_host import LocalHost
from portico.core.log.reader import READ_BYTES
from portico.core.runs.run_engine import EngineLimits, RunEngine
from portico.core.services.multiplex import MESSAGE_BYTES, WINDOW_BYTES, MultiplexConnection
from portico.core.services.rpc.authentication import NoAuthentication
from portico.core.services.rpc.drain import Drain
from portico.core.stores.open_stores import open_stores
from portico.core.stores.ports.stores import Chunk, Stores
from portico.v1 import events_pb2
from portico.v1 import query_pb2 as pb

ASK = object()
END = object()
TURNS = 40  # turns of the loop without a frame, after which no more frames are expected


class MovedLoop(asyncio.SelectorEventLoop):
    """An event loop whose timers fire when the test advances the clock."""

    ahead = 0.0

    def time(self) -> float:
        return super().time() + self.ahead


@dataclass
class Stream:
    """The received part of one stream."""

    stream_id: int
    run_id: str  # empty until a query's first event
    after: int
    due: float | None = None  # the loop's time at which it ends
    events: list[events_pb2.Event] = field(default_factory=list)
    # first and last event of frames beyond READ_BYTES
    large: list[tuple[int, int]] = field(default_factory=list)
    credit: int = WINDOW_BYTES
    taken: int = 0  # bytes without a credit so far
    end: pb.StreamEnd | None = None
    stopped: bool = False
    overdue: bool = False  # it was stopped after its deadline, and nothing was read from the link

    @property
    def cursor(self) -> int:
        return self.after + len(self.events)

    @property
    def open(self) -> bool:
        return self.end is None and not self.stopped

    def take(self, frame: pb.StreamFrame) -> None:
        if self.overdue and not frame.events:
            return  # its end was sent before it was stopped
        assert self.open, "nothing comes after the end"
        if frame.events:
            assert self.credit > 0, "nothing comes while the window is spent"
            wanted = range(self.cursor + 1, self.cursor + 1 + len(frame.events))
            assert [event.sequence_number for event in frame.events] == list(wanted)
            self.run_id = self.run_id or frame.events[0].response.id
            self.events += frame.events
            if frame.size_bytes > READ_BYTES:
                self.large.append((wanted.start, self.cursor))
        assert frame.size_bytes == pb.StreamFrame(events=frame.events).ByteSize()
        self.credit -= frame.size_bytes
        self.taken += frame.size_bytes
        if frame.HasField("end"):
            self.end = frame.end


class LinkWorld:
    """One link, its core, and agents that the test controls."""

    def __init__(self, reader_grace_seconds: float = 1e9) -> None:
        self._grace_seconds = reader_grace_seconds
        self.streams: dict[int, Stream] = {}
        self.scripts: dict[str, asyncio.Queue[object]] = {}  # by the run's input
        self.runs: dict[str, str] = {}  # the same by run id
        self.drain = Drain()
        self._actions: asyncio.Queue[pb.MultiplexRequest | None] = asyncio.Queue()
        self._reads = asyncio.Event()
        self._reads.set()
        self._responses = 0

    async def start(self) -> None:
        self.stores: Stores = await open_stores("memory://")
        app = AgentApp("script")

        @app.query
        async def query(msgs: list[Message], context: Context) -> AsyncIterator[str]:
            told = self.scripts[msgs[0].text]
            self.runs[context.run_id] = msgs[0].text
            while (item := await told.get()) is not END:
                if isinstance(item, str):
                    yield item
                else:
                    await context.input_required("well?")

        # Only the timeouts of streams, and of runs without readers, pass.
        limits = EngineLimits(reader_grace_seconds=self._grace_seconds, store_seconds=1e9)
        self.engine = RunEngine(LocalHost([app]), self.stores, ProtoEncoder(), limits)
        await self.engine.start()
        self._link = MultiplexConnection(self.engine, self._asked(), self.drain, NoAuthentication())
        self._caller = asyncio.create_task(self._read())

    async def stop(self) -> None:
        self.release()
        self._actions.put_nowait(None)
        try:
            if not (self._caller.cancelled() or any(stream.open for stream in self.streams.values())):
                await self._caller
        finally:
            await self.close()
            await self.engine.stop()
            await self.stores.close()

    async def close(self) -> None:
        """Closes the caller's connection."""
        self._caller.cancel()
        await asyncio.gather(self._caller, return_exceptions=True)
        await self._link.close()
        for stream in self.streams.values():
            stream.stopped = True

    async def _asked(self) -> AsyncIterator[bytes]:
        while (actions := await self._actions.get()) is not None:
            yield actions.SerializeToString()

    async def _read(self) -> None:
        async for data in self._link.responses():
            self._responses += 1
            response = pb.MultiplexResponse.FromString(data)
            assert response.frames
            assert sum(frame.ByteSize() for frame in response.frames[:-1]) < MESSAGE_BYTES
            for frame in response.frames:
                self.streams[frame.stream_id].take(frame)
            await self._reads.wait()

    def hold(self) -> None:
        """Stops reading from the link, like a caller with a slow connection."""
        self._reads.clear()

    def release(self) -> None:
        self._reads.set()

    @property
    def held(self) -> bool:
        return not self._reads.is_set()

    async def settled(self) -> None:
        """Returns when no more frames arrive, and checks that no more were due."""
        quiet = 0
        while quiet < TURNS:
            seen = self._responses
            await asyncio.sleep(0)
            quiet = quiet + 1 if seen == self._responses else 0
        if self._caller.done() and not self._caller.cancelled():
            self._caller.result()
        if self.held:
            return
        for stream in self.streams.values():
            if stream.open:
                assert stream.due is None or stream.due > self.now, "its time is over"
                if stream.credit > 0:
                    assert stream.run_id, "a query's first events have come"
                    last = await self.stores.runs.last(stream.run_id)
                    assert last is not None, "the log was deleted"
                    assert stream.cursor == last.last, "nothing waits that there is room for"
                    assert not await self._over(stream), "a log that has ended ends its streams"

    async def _over(self, stream: Stream) -> bool:
        run = self.engine.live(stream.run_id)
        return run is None or bool(stream.events and run.paused_at == stream.cursor)

    @property
    def now(self) -> float:
        return asyncio.get_running_loop().time()

    def move_on(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, MovedLoop)
        loop.ahead += seconds

    def begin(self) -> str:
        """Starts a run without readers; returns its id."""
        launched = self.engine.admit_now(request(self._script(), agent_name="script", background=True))
        assert isinstance(launched, Execution)
        return launched.run.run_id

    def _script(self) -> str:
        name = f"script {len(self.scripts)}"
        self.scripts[name] = asyncio.Queue()
        return name

    def tell(self, run_id: str, *items: object) -> None:
        """Sets the next actions of the run's agent: a text is yielded."""
        for item in items:
            self.scripts[self.runs[run_id]].put_nowait(item)

    def tell_all(self, item: object) -> None:
        for told in self.scripts.values():
            told.put_nowait(item)

    async def answer(self, run_id: str) -> None:
        await self.engine.resume(run_id, "", [Message(Role.USER, (TextContent("yes"),))])

    def watch(self, run_id: str, after: int = -1, *, timeout: float | None = None) -> Stream:
        action = pb.StreamAction(watch=pb.WatchRunRequest(run_id=run_id, after_sequence_number=after))
        if after < 0:
            action.watch.ClearField("after_sequence_number")
        return self._open(action, run_id, after, timeout)

    def query(self, *, timeout: float | None = None) -> Stream:
        action = pb.StreamAction()
        action.query.request.input.add(role=events_pb2.ROLE_USER).content.add(text=self._script())
        return self._open(action, "", -1, timeout)

    def _open(self, action: pb.StreamAction, run_id: str, after: int, timeout: float | None) -> Stream:
        stream = Stream(len(self.streams) + 1, run_id, after)
        if timeout is not None:
            action.timeout.FromNanoseconds(round(timeout * 1e9))
            stream.due = self.now + timeout
        self.streams[stream.stream_id] = stream
        self.act(stream, action)
        return stream

    def pay(self, stream: Stream, size: int) -> None:
        """Grants credit, which may exceed the received bytes."""
        self.act(stream, pb.StreamAction(credit=pb.Credit(size_bytes=size)))
        if size > 0:
            stream.credit = min(stream.credit + size, WINDOW_BYTES)
            stream.taken = max(stream.taken - size, 0)

    async def halt(self, stream: Stream) -> None:
        """Stops the stream; no frames may arrive for it afterwards."""
        self.act(stream, pb.StreamAction(stop=pb.Stop()))
        await self.settled()
        stream.overdue = self.held and stream.due is not None and stream.due <= self.now
        stream.stopped = True

    def act(self, stream: Stream, action: pb.StreamAction) -> None:
        action.stream_id = stream.stream_id
        self._actions.put_nowait(pb.MultiplexRequest(actions=[action]))

    async def check(self, stream: Stream) -> None:
        """Checks that the stream has the log's events, and that only frames with a single large chunk are
        large.
        """
        chunks = await self.stores.runs.read(stream.run_id, -1, 1 << 40)
        for first, last in stream.large:
            assert any(chunk.first <= first <= last == chunk.last for chunk in chunks)
        log = self._events(chunks)
        assert stream.events == log[stream.after + 1 :][: len(stream.events)]

    def _events(self, chunks: Sequence[Chunk]) -> list[events_pb2.Event]:
        return list(pb.QueryResponse.FromString(b"".join(chunk.data for chunk in chunks)).events)
