"""Core and callers of neighbouring releases work together: each ignores fields that it does not know."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from support.a2a_gateways import scripted_agents
from support.serving import running_core

from portico.client import Client, Multiplexer, Unimplemented, query_request
from portico.v1 import query_pb2

NEWER = b"\xfa\x3f\x03new"  # a field that no message has: number 1023, three bytes long


async def test_a_core_leaves_out_what_a_newer_caller_says(tmp_path: Path) -> None:
    async with (
        running_core(scripted_agents(), tmp_path) as server,
        grpc.aio.insecure_channel(server.addresses[0]) as channel,
    ):
        query = query_request("echo hi", agent="scripted").SerializeToString() + NEWER
        call: Any = channel.unary_stream("/portico.v1.QueryService/Query")
        events = [
            event async for data in call(query) for event in query_pb2.QueryResponse.FromString(data).events
        ]
        assert events[-1].response.error.code == ""
        assert "hi" in str(events)


async def test_a_method_that_a_core_lacks_is_a_typed_error(tmp_path: Path) -> None:
    async with running_core(scripted_agents(), tmp_path) as server, Client(server.addresses[0]) as client:
        method: Any = client.calls.connection.channel.unary_unary("/portico.v1.QueryService/OfTheNextRelease")
        with pytest.raises(Unimplemented):
            await client.calls.unary(method, b"")


async def test_a_caller_leaves_out_what_a_newer_core_says(tmp_path: Path) -> None:
    """Simulates a newer core: each message has an additional field, each stream an additional frame."""
    async with running_core(scripted_agents(), tmp_path) as server:
        forward = grpc.aio.insecure_channel(server.addresses[0])
        carry: Any = forward.stream_stream("/portico.v1.QueryService/Multiplex")

        async def multiplex(
            requests: AsyncIterator[bytes], _: grpc.aio.ServicerContext
        ) -> AsyncIterator[bytes]:
            seen = set()
            async for data in carry(requests):
                response = query_pb2.MultiplexResponse.FromString(data)
                newer = query_pb2.MultiplexResponse()
                for frame in response.frames:
                    if frame.stream_id not in seen:
                        seen.add(frame.stream_id)
                        more = query_pb2.StreamFrame(stream_id=frame.stream_id).SerializeToString() + NEWER
                        newer.frames.add().MergeFromString(more)
                    newer.frames.add().MergeFromString(frame.SerializeToString() + NEWER)
                yield newer.SerializeToString() + NEWER

        newer_core = grpc.aio.server()
        handler = grpc.method_handlers_generic_handler(
            "portico.v1.QueryService", {"Multiplex": grpc.stream_stream_rpc_method_handler(multiplex)}
        )
        newer_core.add_generic_rpc_handlers((handler,))
        port = newer_core.add_insecure_port("127.0.0.1:0")
        await newer_core.start()
        try:
            async with Client(f"127.0.0.1:{port}") as client, Multiplexer(client) as streams:
                with streams.open_query(query_request("echo hi", agent="scripted")) as stream:
                    frames = [frame async for some in stream for frame in some]
            assert next(event.sequence_number for frame in frames for event in frame.events) == 0
            assert "hi" in str(frames)
        finally:
            await newer_core.stop(0)
            await forward.close()
