"""A scripted core: the contract's servicers over a real socket, with logs that tests write."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import _async as health
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from portico.client import Client, Multiplexer
from portico.v1 import (
    agent_pb2_grpc,
    events_pb2,
    memory_pb2_grpc,
    query_pb2,
    query_pb2_grpc,
    session_pb2_grpc,
    state_pb2_grpc,
)

SERVICES = (
    (agent_pb2_grpc.AgentServiceServicer, agent_pb2_grpc.add_AgentServiceServicer_to_server),
    (memory_pb2_grpc.MemoryServiceServicer, memory_pb2_grpc.add_MemoryServiceServicer_to_server),
    (session_pb2_grpc.SessionServiceServicer, session_pb2_grpc.add_SessionServiceServicer_to_server),
    (state_pb2_grpc.StateServiceServicer, state_pb2_grpc.add_StateServiceServicer_to_server),
)
WINDOW_BYTES = 256 * 1024


def make_log(
    run_id: str, texts: Iterable[str], last: int | None = events_pb2.RUN_STATUS_COMPLETED
) -> list[events_pb2.Event]:
    """Returns a run that sends the texts one by one and then has the given status, or continues."""
    numbers = itertools.count()

    def response(status: int) -> events_pb2.Event:
        error = events_pb2.Error(code="boom", message="it broke")
        return events_pb2.Event(
            sequence_number=next(numbers),
            response=events_pb2.Response(
                id=run_id,
                status=events_pb2.RunStatus.ValueType(status),
                error=error if status == events_pb2.RUN_STATUS_FAILED else None,
                attempt=1,
            ),
        )

    message = events_pb2.Message(
        id="msg_1", type=events_pb2.MESSAGE_TYPE_MESSAGE, role=events_pb2.ROLE_ASSISTANT
    )
    return [
        response(events_pb2.RUN_STATUS_CREATED),
        response(events_pb2.RUN_STATUS_IN_PROGRESS),
        events_pb2.Event(sequence_number=next(numbers), message=message),
        *(
            events_pb2.Event(
                sequence_number=next(numbers),
                content=events_pb2.Content(
                    type=events_pb2.CONTENT_TYPE_TEXT, msg_id="msg_1", delta=True, text=text
                ),
            )
            for text in texts
        ),
        *([] if last is None else [response(last)]),
    ]


@dataclass
class Failure:
    """The failure of a call."""

    code: grpc.StatusCode
    reason: str = ""
    metadata: dict[str, str] = field(default_factory=dict)

    async def abort(self, context: Any) -> None:
        info = any_pb2.Any()
        info.Pack(error_details_pb2.ErrorInfo(reason=self.reason, domain="portico", metadata=self.metadata))
        status = status_pb2.Status(code=self.code.value[0], message="scripted", details=[info])
        await context.abort_with_status(rpc_status.to_status(status))  # type: ignore[no-untyped-call]


CUT = Failure(grpc.StatusCode.UNAVAILABLE, "DRAINING")


@dataclass
class MuxSide:
    """The core's side of one stream on a Multiplex connection."""

    window: int = WINDOW_BYTES
    paid: asyncio.Event = field(default_factory=asyncio.Event)
    task: "asyncio.Task[None] | None" = None


class ScriptedCore(query_pb2_grpc.QueryServiceServicer):
    """Serves scripted logs, and records requests."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.server: grpc.aio.Server | None = None
        self.health = health.HealthServicer()
        # The log of a run by its id; the log of the next new run comes from the script.
        self.logs: dict[str, list[events_pb2.Event]] = {}
        self.script: Callable[[str], list[events_pb2.Event]] = lambda run_id: make_log(run_id, "abc")
        self.runs_by_key: dict[str, str] = {}
        # After how many events each next stream is cut, and how; later streams run to the end.
        self.cuts: list[int] = []
        self.cut_as = CUT
        # The same, but as if the log had ended there.
        self.ends: list[int] = []
        # Cuts the next stream after its whole log was sent.
        self.cut_behind_end = False
        self.frame_events = 3
        # Keeps streams open after the log's last event.
        self.hold = False
        self.asked: list[str] = []
        self.metadata: list[dict[str, str | bytes]] = []
        self.cancelled = asyncio.Event()
        # The responses of unary calls, by method name.
        self.answers: dict[str, Any] = {}
        self.requests: list[Any] = []
        # For Multiplex: after how many frames each next connection is cut.
        self.connection_cuts: list[int] = []
        self.most_unpaid_bytes = 0
        self.credits = 0
        self.stops = 0
        self.connections = 0
        self.stream_failures: list[Failure] = []

    def make_runs(self, texts: str, last: int | None = events_pb2.RUN_STATUS_COMPLETED) -> None:
        """Sets the texts and the final status of new runs."""
        self.script = lambda run_id: make_log(run_id, texts, last)

    def finish_runs(self) -> None:
        """Ends endless runs: all logs get a terminal event, including logs of new runs."""
        self.hold = False
        self.make_runs("abc")
        for run_id in self.logs:
            self.logs[run_id] = make_log(run_id, "abc")

    def fail_streams(self, code: grpc.StatusCode, reason: str, **metadata: str) -> None:
        """Sets the status with which streams are cut."""
        self.cut_as = Failure(code, reason, metadata)

    def fail_mux(self, code: grpc.StatusCode, reason: str, **metadata: str) -> None:
        """Sets the end of the next multiplexed stream."""
        self.stream_failures.append(Failure(code, reason, metadata))

    def answer_with_error(self, method: str, code: grpc.StatusCode, reason: str, **metadata: str) -> None:
        """Sets the failure of a unary call."""
        self.answers[method] = Failure(code, reason, metadata)

    async def start(self) -> None:
        server = grpc.aio.server()
        query_pb2_grpc.add_QueryServiceServicer_to_server(self, server)
        for base, add in SERVICES:
            add(self._answering(base), server)
        health_pb2_grpc.add_HealthServicer_to_server(self.health, server)  # type: ignore[no-untyped-call]
        await self.health.set("", health_pb2.HealthCheckResponse.SERVING)
        server.add_insecure_port(self.target)
        await server.start()
        self.server = server

    async def stop(self) -> None:
        if self.server is not None:
            await self.server.stop(None)
            self.server = None

    def _answering(self, base: Any) -> Any:
        """Returns a servicer whose methods all answer from the script."""

        def method(name: str) -> Any:
            async def call(self_: Any, request: Any, context: Any) -> Any:
                return await self._answer(name, request, context)

            return call

        names = [name for name in vars(base) if name[0].isupper() and not name.startswith("Stream")]
        members: dict[str, Any] = {name: method(name) for name in names}
        if hasattr(base, "StreamEndpoint"):

            async def stream(self_: Any, request: Any, context: Any) -> AsyncIterator[Any]:
                answer = await self._answer("StreamEndpoint", request, context)
                with self._noticing_cancel():
                    for item in answer:
                        yield item
                    if self.hold:
                        await asyncio.Event().wait()

            members["StreamEndpoint"] = stream
        return type("Answering", (base,), members)()

    async def _answer(self, name: str, request: Any, context: Any) -> Any:
        self.asked.append(name)
        self.requests.append(request)
        self.metadata.append(dict(context.invocation_metadata()))
        answer = self.answers[name]
        if isinstance(answer, list) and name != "StreamEndpoint":
            answer = answer.pop(0)
        if isinstance(answer, Failure):
            await answer.abort(context)
        if callable(answer):
            answer = await answer(request)
        return answer

    async def GetRun(self, request: Any, context: Any) -> Any:
        return await self._answer("GetRun", request, context)

    async def StartRun(self, request: Any, context: Any) -> Any:
        return await self._answer("StartRun", request, context)

    async def ListRuns(self, request: Any, context: Any) -> Any:
        return await self._answer("ListRuns", request, context)

    async def CancelRun(self, request: Any, context: Any) -> Any:
        return await self._answer("CancelRun", request, context)

    async def InterruptRun(self, request: Any, context: Any) -> Any:
        return await self._answer("InterruptRun", request, context)

    async def ResumeRun(self, request: Any, context: Any) -> Any:
        return await self._answer("ResumeRun", request, context)

    async def SteerRun(self, request: Any, context: Any) -> Any:
        return await self._answer("SteerRun", request, context)

    async def DeleteRun(self, request: Any, context: Any) -> Any:
        return await self._answer("DeleteRun", request, context)

    async def Query(self, request: Any, context: Any) -> AsyncIterator[query_pb2.QueryResponse]:
        self.metadata.append(dict(context.invocation_metadata()))
        self.asked.append("Query")
        with self._noticing_cancel():
            async for events in self._follow(self._begin(request), None, context):
                yield query_pb2.QueryResponse(events=events)

    async def WatchRun(self, request: Any, context: Any) -> AsyncIterator[query_pb2.WatchRunResponse]:
        after = request.after_sequence_number if request.HasField("after_sequence_number") else None
        self.asked.append(f"WatchRun {after}")
        with self._noticing_cancel():
            async for events in self._follow(request.run_id, after, context):
                yield query_pb2.WatchRunResponse(events=events)

    def _begin(self, request: query_pb2.QueryRequest) -> str:
        key = request.idempotency_key
        assert key, "the client always sets an idempotency key"
        run_id = self.runs_by_key.setdefault(key, f"resp_{len(self.runs_by_key)}")
        if run_id not in self.logs:
            self.logs[run_id] = self.script(run_id)
        return run_id

    async def _follow(
        self, run_id: str, after: int | None, context: Any
    ) -> AsyncIterator[list[events_pb2.Event]]:
        if run_id not in self.logs:
            await Failure(grpc.StatusCode.NOT_FOUND, "RUN_NOT_FOUND", {"run_id": run_id}).abort(context)
        events = self.logs[run_id][0 if after is None else after + 1 :]
        cut = self.cuts.pop(0) if self.cuts else None
        if self.ends:
            events = events[: self.ends.pop(0)]
        for begin in range(0, len(events), self.frame_events):
            end = begin + self.frame_events
            if cut is not None and end > cut:
                if events[begin:cut]:
                    yield events[begin:cut]
                await self.cut_as.abort(context)
            yield events[begin:end]
        if self.cut_behind_end:
            self.cut_behind_end = False
            await self.cut_as.abort(context)
        if self.hold:
            await asyncio.Event().wait()

    @contextmanager
    def _noticing_cancel(self) -> Iterator[None]:
        """Records a cancellation at any point of the call, also between two frames."""
        try:
            yield
        except (asyncio.CancelledError, GeneratorExit):
            self.cancelled.set()
            raise

    async def Multiplex(  # type: ignore[override]  # the stub knows generators only
        self, request_iterator: Any, context: Any
    ) -> None:
        self.connections += 1
        cut = self.connection_cuts.pop(0) if self.connection_cuts else None
        sides: dict[int, MuxSide] = {}
        ready: asyncio.Queue[query_pb2.StreamFrame] = asyncio.Queue(100)
        reader = asyncio.create_task(self._read_requests(request_iterator, sides, ready))
        try:
            while cut is None or cut > 0:
                frames = [await ready.get()]
                while not ready.empty():
                    frames.append(ready.get_nowait())
                frames = frames[:cut]
                await context.write(query_pb2.MultiplexResponse(frames=frames))
                cut = None if cut is None else cut - len(frames)
            await CUT.abort(context)
        finally:
            reader.cancel()
            for side in sides.values():
                assert side.task is not None
                side.task.cancel()

    async def _read_requests(
        self, requests: Any, sides: dict[int, MuxSide], ready: "asyncio.Queue[query_pb2.StreamFrame]"
    ) -> None:
        async for message in requests:
            for request in message.actions:
                number = request.stream_id
                match request.WhichOneof("action"):
                    case "stop":
                        self.stops += 1
                        side = sides.pop(number)
                        assert side.task is not None
                        side.task.cancel()
                    case "credit":
                        self.credits += 1
                        sides[number].window += request.credit.size_bytes
                        assert sides[number].window <= WINDOW_BYTES, "paid for more than was sent"
                        sides[number].paid.set()
                    case _:
                        assert number not in sides, "an id was used twice"
                        self.metadata.append(dict(request.metadata))
                        sides[number] = side = MuxSide()
                        side.task = asyncio.create_task(self._send(request, side, ready))

    async def _send(self, request: Any, side: MuxSide, ready: "asyncio.Queue[query_pb2.StreamFrame]") -> None:
        number = request.stream_id
        if request.WhichOneof("action") == "query":
            self.asked.append("Query")
            run_id, after = self._begin(request.query), None
        else:
            watch = request.watch
            run_id = watch.run_id
            after = watch.after_sequence_number if watch.HasField("after_sequence_number") else None
            self.asked.append(f"WatchRun {after}")
        if self.stream_failures:
            failure = self.stream_failures.pop(0)
            await ready.put(query_pb2.StreamFrame(stream_id=number, end=stream_end(failure)))
            return
        events = self.logs[run_id][0 if after is None else after + 1 :]
        if self.ends:
            events = events[: self.ends.pop(0)]
        for begin in range(0, len(events), self.frame_events):
            frame = query_pb2.StreamFrame(stream_id=number, events=events[begin : begin + self.frame_events])
            frame.size_bytes = frame.ByteSize()
            while side.window <= 0:
                side.paid.clear()
                await side.paid.wait()
            side.window -= frame.size_bytes
            self.most_unpaid_bytes = max(self.most_unpaid_bytes, WINDOW_BYTES - side.window)
            await ready.put(frame)
        if not self.hold:
            await ready.put(query_pb2.StreamFrame(stream_id=number, end=query_pb2.StreamEnd()))


def stream_end(failure: Failure) -> query_pb2.StreamEnd:
    return query_pb2.StreamEnd(
        code=failure.code.value[0], message="scripted", reason=failure.reason, metadata=failure.metadata
    )


@pytest.fixture
async def core(tmp_path: Path) -> AsyncIterator[ScriptedCore]:
    scripted = ScriptedCore(f"unix:{tmp_path}/core.sock")
    await scripted.start()
    yield scripted
    await scripted.stop()


@pytest.fixture
async def client(core: ScriptedCore) -> AsyncIterator[Client]:
    async with Client(core.target, timeout=5) as connected:
        yield connected


@pytest.fixture
def endless(core: ScriptedCore) -> None:
    """Sets runs that send abc and never end."""
    core.make_runs("abc", None)
    core.hold = True


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shortens the retry delays."""
    monkeypatch.setattr("portico.client.streams.backoff._FIRST_SECONDS", 0.01)
    monkeypatch.setattr("portico.client.streams.backoff._LONGEST_SECONDS", 0.1)


@pytest.fixture
async def mux(client: Client) -> AsyncIterator[Multiplexer]:
    async with Multiplexer(client, resume_timeout=5) as multiplexer:
        yield multiplexer
