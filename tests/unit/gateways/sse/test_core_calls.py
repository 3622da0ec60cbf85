"""Calls to the core: metadata, Stop actions and flow-control credit; and the answers for its errors."""

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Literal

import grpc
import grpc.aio
import httpx
import pytest
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from portico.v1 import agent_pb2, agent_pb2_grpc, events_pb2, query_pb2, query_pb2_grpc

WINDOW_BYTES = 256 * 1024
TEXT_BYTES = 64 * 1024

Responses = AsyncIterator[query_pb2.MultiplexResponse]


class ScriptedCore(query_pb2_grpc.QueryServiceServicer, agent_pb2_grpc.AgentServiceServicer):
    """A core without agents that records actions, and answers streams and GetRun from its script."""

    def __init__(self) -> None:
        self.actions: list[query_pb2.StreamAction] = []
        self.told = asyncio.Condition()
        self.metadata: dict[str, str] = {}
        # Frames that a stream sends before it falls silent.
        self.frames: list[query_pb2.StreamFrame] = []
        # Size of the texts that follow as far as the window allows, and the bytes sent of them.
        self.endless_bytes = 0
        self.sent_bytes = 0
        self.failure = query_pb2.StreamEnd()

    async def Multiplex(self, request_iterator: Any, context: Any) -> Responses:
        sending: asyncio.Queue[query_pb2.StreamFrame] = asyncio.Queue()
        reading = asyncio.create_task(self._read(request_iterator, sending))
        try:
            while True:
                yield query_pb2.MultiplexResponse(frames=[await sending.get()])
        finally:
            reading.cancel()

    async def _read(self, requests: Any, sending: "asyncio.Queue[query_pb2.StreamFrame]") -> None:
        window = WINDOW_BYTES
        async for request in requests:
            for action in request.actions:
                async with self.told:
                    self.actions.append(action)
                    self.told.notify_all()
                if action.HasField("credit"):
                    window += action.credit.size_bytes
                elif action.HasField("stop"):
                    continue
                else:
                    for frame in self.frames:
                        frame.stream_id = action.stream_id
                        sending.put_nowait(frame)
                while self.sent_bytes < self.endless_bytes and window > 0:
                    window -= TEXT_BYTES
                    sending.put_nowait(self._more(action.stream_id))

    def _more(self, stream_id: int) -> query_pb2.StreamFrame:
        number = 1 + self.sent_bytes // TEXT_BYTES
        self.sent_bytes += TEXT_BYTES
        text = events_pb2.Content(
            type=events_pb2.CONTENT_TYPE_TEXT,
            status=events_pb2.RUN_STATUS_IN_PROGRESS,
            delta=True,
            msg_id="msg_1",
            text="x" * TEXT_BYTES,
        )
        event = events_pb2.Event(sequence_number=number, content=text)
        return query_pb2.StreamFrame(stream_id=stream_id, events=[event], size_bytes=TEXT_BYTES)

    async def GetRun(self, request: Any, context: Any) -> query_pb2.GetRunResponse:
        self.metadata = dict(context.invocation_metadata())
        if self.failure.code:
            info = any_pb2.Any()
            info.Pack(
                error_details_pb2.ErrorInfo(
                    reason=self.failure.reason, domain="portico", metadata=self.failure.metadata
                )
            )
            status = status_pb2.Status(code=self.failure.code, message=self.failure.message, details=[info])
            await context.abort_with_status(rpc_status.to_status(status))  # type: ignore[no-untyped-call]
        return query_pb2.GetRunResponse(run=query_pb2.Run(response=created().response))

    async def ListAgents(self, request: Any, context: Any) -> agent_pb2.ListAgentsResponse:
        self.metadata = dict(context.invocation_metadata())
        return agent_pb2.ListAgentsResponse()

    async def until(self, kind: Literal["query", "watch", "stop", "credit"]) -> query_pb2.StreamAction:
        """Waits for the first action of a kind."""
        async with asyncio.timeout(5), self.told:
            await self.told.wait_for(lambda: any(action.HasField(kind) for action in self.actions))
        return next(action for action in self.actions if action.HasField(kind))


def created() -> events_pb2.Event:
    response = events_pb2.Response(
        id="resp_1", status=events_pb2.RUN_STATUS_CREATED, session_id="s", user_id="u", attempt=1
    )
    return events_pb2.Event(sequence_number=0, response=response)


@pytest.fixture
async def scripted(tmp_path: Path) -> AsyncIterator[tuple[ScriptedCore, str]]:
    """A core, and its target."""
    target = f"unix:{tmp_path}/scripted.sock"
    core = ScriptedCore()  # type: ignore[abstract]
    server = grpc.aio.server()
    query_pb2_grpc.add_QueryServiceServicer_to_server(core, server)
    agent_pb2_grpc.add_AgentServiceServicer_to_server(core, server)
    server.add_insecure_port(target)
    await server.start()
    yield core, target
    await server.stop(None)


CALLER = {
    "authorization": "Bearer ada",
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "tracestate": "a=b",
    "x-request-id": "r1",
}
ADDRESS = {"x-portico-client-address": "127.0.0.1"}  # metadata that the gateway adds


async def test_the_callers_own_metadata_travels_with_each_call(serve: Any, scripted: Any) -> None:
    core, target = scripted
    core.frames = [query_pb2.StreamFrame(events=[created()])]
    http: httpx.AsyncClient = await serve(core=target)
    forged = {"x-portico-client-address": "10.0.0.1"}
    headers = {**CALLER, **forged, "cookie": "secret=1", "x-other": "no"}
    async with http.stream("POST", "/process", json={"input": "x"}, headers=headers) as answer:
        assert (answer.headers["x-run-id"], answer.headers["x-session-id"]) == ("resp_1", "s")
        assert dict((await core.until("query")).metadata) == {**CALLER, **ADDRESS}
    async with http.stream("GET", "/runs/resp_1/events", headers={"authorization": "Bearer bob"}):
        assert dict((await core.until("watch")).metadata) == {"authorization": "Bearer bob", **ADDRESS}
    await http.get("/runs/resp_1", headers=headers)
    assert CALLER.items() <= core.metadata.items()
    assert not {"cookie", "x-other"} & set(core.metadata)
    await http.get("/runs/resp_1")
    assert not set(CALLER) & set(core.metadata)
    # Endpoints are looked up with the caller's credential too.
    assert (await http.get("/somewhere", headers=headers)).status_code == 404
    assert CALLER.items() <= core.metadata.items()


@pytest.mark.parametrize("begun", [True, False])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_who_leaves_is_no_reader_from_then_on(
    serve: Any, scripted: Any, begun: bool, method: str
) -> None:
    """Also before the first event, and long before the next ping."""
    core, target = scripted
    core.frames = [query_pb2.StreamFrame(events=[created()])] if begun else []
    http: httpx.AsyncClient = await serve(core=target)
    path, body = ("/runs/resp_1/events", None) if method == "GET" else ("/process", {"input": "x"})
    asked = asyncio.create_task(http.request(method, path, json=body))
    opened = await core.until("watch" if method == "GET" else "query")
    await asyncio.sleep(0.05)
    asked.cancel()
    assert (await core.until("stop")).stream_id == opened.stream_id


async def test_a_slow_reader_gets_no_more_than_it_takes_and_all_of_it(serve: Any, scripted: Any) -> None:
    core, target = scripted
    core.frames = [query_pb2.StreamFrame(events=[created()])]
    core.endless_bytes = 32 * 1024 * 1024
    http: httpx.AsyncClient = await serve(core=target)
    with socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
        slow.connect((http.base_url.host, http.base_url.port))
        body = b'{"input":"x"}'
        slow.sendall(
            b"POST /process HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\n\r\n%b" % (len(body), body)
        )
        sent = -1
        while sent < core.sent_bytes:
            sent = core.sent_bytes
            await asyncio.sleep(0.3)
        # Only the content of the kernel's buffers and one window is sent.
        assert 0 < sent < core.endless_bytes / 2
        reader, writer = await asyncio.open_connection(sock=slow, limit=2**20)
        numbers: list[int] = []
        while len(numbers) <= core.endless_bytes // TEXT_BYTES:
            line = await reader.readline()
            if line.startswith(b"id: "):
                numbers.append(int(line[4:]))
        writer.close()
    assert numbers == list(range(len(numbers)))
    await core.until("stop")


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, 400),
        (grpc.StatusCode.UNAUTHENTICATED, 401),
        (grpc.StatusCode.PERMISSION_DENIED, 403),
        (grpc.StatusCode.NOT_FOUND, 404),
        (grpc.StatusCode.ALREADY_EXISTS, 409),
        (grpc.StatusCode.ABORTED, 409),
        (grpc.StatusCode.FAILED_PRECONDITION, 409),
        (grpc.StatusCode.OUT_OF_RANGE, 416),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, 429),
        (grpc.StatusCode.INTERNAL, 500),
        (grpc.StatusCode.UNKNOWN, 500),
        (grpc.StatusCode.DATA_LOSS, 500),
        (grpc.StatusCode.UNIMPLEMENTED, 501),
        (grpc.StatusCode.UNAVAILABLE, 503),
        (grpc.StatusCode.DEADLINE_EXCEEDED, 504),
    ],
)
async def test_every_grpc_code_has_its_status(
    serve: Any, scripted: Any, code: grpc.StatusCode, status: int
) -> None:
    core, target = scripted
    core.failure = query_pb2.StreamEnd(
        code=code.value[0], message="told", reason="WHY", metadata={"run_id": "resp_1"}
    )
    core.frames = [query_pb2.StreamFrame(end=core.failure)]
    http: httpx.AsyncClient = await serve(core=target, resume_seconds=0.1)
    body = {"input": "x"}
    for answer in (
        await http.get("/runs/resp_1"),
        await http.get("/runs/resp_1/events"),
        await http.post("/process", json=body),
        await http.post("/process", json={**body, "stream": False}),
    ):
        assert answer.status_code == status
        error = answer.json()["error"]
        assert (error["code"], error["details"]) == ("WHY", {"run_id": "resp_1"})
        assert error["message"].endswith("told")
        assert ("retry-after" in answer.headers) == (status in (429, 503))


async def test_a_run_that_has_begun_is_named_when_its_answer_fails(serve: Any, scripted: Any) -> None:
    """A caller that requested one JSON object has received no header yet, and should not start the run
    again.
    """
    core, target = scripted
    failure = query_pb2.StreamEnd(code=grpc.StatusCode.INTERNAL.value[0], message="told", reason="INTERNAL")
    core.frames = [query_pb2.StreamFrame(events=[created()]), query_pb2.StreamFrame(end=failure)]
    http: httpx.AsyncClient = await serve(core=target)
    answer = await http.post("/process", json={"input": "x", "stream": False})
    assert answer.status_code == 500
    assert answer.json()["error"]["details"] == {"run_id": "resp_1"}
