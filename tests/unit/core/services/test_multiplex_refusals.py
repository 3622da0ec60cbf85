"""An error of the caller in one stream ends that stream and no other."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from support.serving import running_core

from portico.agent import AgentApp
from portico.client import query_request
from portico.core.services import multiplex
from portico.v1 import query_pb2 as pb
from portico.v1 import query_pb2_grpc


def endless() -> AgentApp:
    app = AgentApp("endless")

    @app.query
    async def query(msgs: list[object]) -> AsyncIterator[str]:
        yield "hello"
        await asyncio.sleep(1000)

    return app


def opening(stream_id: int, text: str = "hi") -> pb.StreamAction:
    return pb.StreamAction(stream_id=stream_id, query=query_request(text))


@pytest.fixture
async def stub(tmp_path: Path) -> AsyncIterator[Any]:
    async with (
        running_core([endless()], tmp_path) as server,
        grpc.aio.insecure_channel(server.addresses[0]) as channel,
    ):
        yield query_pb2_grpc.QueryServiceStub(channel)


async def ends(call: Any, wanted: int) -> dict[int, list[tuple[int, str, str]]]:
    """Waits until so many streams have ended; returns their ends."""
    found: dict[int, list[tuple[int, str, str]]] = {}
    while sum(map(len, found.values())) < wanted:
        response = await call.read()
        assert isinstance(response, pb.MultiplexResponse), response
        for frame in response.frames:
            if frame.HasField("end"):
                end = frame.end
                found.setdefault(frame.stream_id, []).append((end.code, end.reason, end.metadata["field"]))
    return found


async def first_events(call: Any, stream_ids: set[int]) -> None:
    while stream_ids:
        for frame in (await call.read()).frames:
            assert not frame.HasField("end"), frame
            stream_ids = stream_ids - {frame.stream_id}


async def test_a_used_id_ends_its_own_streams_only(stub: Any) -> None:
    call = stub.Multiplex()
    await call.write(pb.MultiplexRequest(actions=[opening(1), opening(2)]))
    await first_events(call, {1, 2})
    nothing = pb.StreamAction(stream_id=7)
    await call.write(pb.MultiplexRequest(actions=[opening(1), opening(0), nothing]))
    invalid = grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert await ends(call, 3) == {
        1: [(invalid, "INVALID_ARGUMENT", "stream_id")],
        0: [(invalid, "INVALID_ARGUMENT", "stream_id")],
        7: [(invalid, "INVALID_ARGUMENT", "action")],
    }
    # The other stream and the link continue.
    await call.write(pb.MultiplexRequest(actions=[opening(3)]))
    await first_events(call, {3})
    await call.write(pb.MultiplexRequest(actions=[pb.StreamAction(stream_id=2, watch=pb.WatchRunRequest())]))
    assert set(await ends(call, 1)) == {2}
    call.cancel()


async def test_who_is_refused_and_does_not_read_is_read_no_further(
    stub: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(multiplex, "MAX_PENDING_ENDS", 30)
    call = stub.Multiplex()
    for _ in range(100):
        await call.write(pb.MultiplexRequest(actions=[opening(0)] * 100))
    assert len((await ends(call, 10_000))[0]) == 10_000
    call.cancel()
