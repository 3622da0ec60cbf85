"""`python -m benchmarks.bare.core SOCKET DATABASE`: sends paced tokens over one stream."""

import asyncio
import sqlite3
import sys
from collections.abc import AsyncIterator
from typing import Any

import grpc
import uvloop

from portico.v1 import events_pb2
from portico.v1 import query_pb2 as pb

SERVICE = "portico.v1.QueryService"


class Core:
    """Sends the requested tokens."""

    def __init__(self, database: str) -> None:
        self._log = sqlite3.connect(database, isolation_level=None)
        self._log.execute("PRAGMA journal_mode = WAL")
        self._log.execute("PRAGMA synchronous = NORMAL")
        self._log.execute("CREATE TABLE frames (frame BLOB)")
        self._ready: dict[int, pb.StreamFrame] = {}
        self._wake = asyncio.Event()
        self._saying: set[asyncio.Task[None]] = set()

    async def multiplex(
        self, requests: AsyncIterator[pb.MultiplexRequest], _context: object
    ) -> AsyncIterator[bytes]:
        reading = asyncio.create_task(self._read(requests))
        while not reading.done():
            await self._wake.wait()
            self._wake.clear()
            frames, self._ready = self._ready, {}
            data = pb.MultiplexResponse(frames=frames.values()).SerializeToString()
            self._log.execute("INSERT INTO frames VALUES (?)", (data,))
            yield data

    async def _read(self, requests: AsyncIterator[pb.MultiplexRequest]) -> None:
        async for request in requests:
            for action in request.actions:
                *_, count = action.query.request.input[-1].content[0].text.split()
                task = asyncio.create_task(self._say(action.stream_id, int(count)))
                self._saying.add(task)
                task.add_done_callback(self._saying.discard)

    async def _say(self, stream_id: int, count: int) -> None:
        self._frame(stream_id).events.add(sequence_number=0).response.id = f"resp_{stream_id}"
        number = 1
        async for text in tokens(count):
            event = self._frame(stream_id).events.add(sequence_number=number)
            content = event.content
            content.msg_id = f"msg_{stream_id}"
            content.text = text
            number += 1
        frame = self._frame(stream_id)
        frame.events.add(sequence_number=number).response.status = events_pb2.RUN_STATUS_COMPLETED
        frame.end.code = 0

    def _frame(self, stream_id: int) -> pb.StreamFrame:
        frame = self._ready.get(stream_id)
        if frame is None:
            frame = self._ready[stream_id] = pb.StreamFrame(stream_id=stream_id)
            self._wake.set()
        return frame


async def tokens(count: int) -> AsyncIterator[str]:
    """Yields the same tokens as the benchmarks' agent."""
    for number in range(count):
        await asyncio.sleep(0.02)
        yield f"tok{number} "


async def main(socket: str, database: str) -> None:
    server = grpc.aio.server()
    method: Any = grpc.stream_stream_rpc_method_handler(
        Core(database).multiplex, request_deserializer=pb.MultiplexRequest.FromString
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"Multiplex": method}),))
    server.add_insecure_port(f"unix:{socket}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
