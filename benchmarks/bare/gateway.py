"""`python -m benchmarks.bare.gateway PORT SOCKET`: serves the core's tokens as server-sent events."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import grpc
import orjson
import uvicorn
from fastapi import FastAPI, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from benchmarks.bare.core import SERVICE
from portico.v1 import events_pb2
from portico.v1 import query_pb2 as pb


class Link:
    """The one stream to the core."""

    def __init__(self) -> None:
        self._ids = count(1)
        self._out: asyncio.Queue[pb.MultiplexRequest] = asyncio.Queue()
        self._replies: dict[int, asyncio.Queue[pb.StreamFrame]] = {}

    async def run(self, socket: str) -> None:
        async with grpc.aio.insecure_channel(f"unix:{socket}") as channel:
            method = channel.stream_stream(
                f"/{SERVICE}/Multiplex",
                request_serializer=pb.MultiplexRequest.SerializeToString,
                response_deserializer=pb.MultiplexResponse.FromString,
            )
            async for response in method(self._requests(), wait_for_ready=True):
                for frame in response.frames:
                    self._replies[frame.stream_id].put_nowait(frame)

    async def ask(self, text: str) -> AsyncIterator[pb.StreamFrame]:
        """Yields the frames of one reply."""
        stream_id = next(self._ids)
        frames = self._replies[stream_id] = asyncio.Queue()
        request = pb.MultiplexRequest()
        action = request.actions.add(stream_id=stream_id)
        action.query.request.input.add().content.add(text=text)
        self._out.put_nowait(request)
        while True:
            frame = await frames.get()
            yield frame
            if frame.HasField("end"):
                del self._replies[stream_id]
                return

    async def _requests(self) -> AsyncIterator[pb.MultiplexRequest]:
        while True:
            yield await self._out.get()


class Events(Response):
    """Streams a reply as it arrives."""

    def __init__(self, frames: AsyncIterator[pb.StreamFrame]) -> None:
        self._frames = frames
        self.background = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        async for frame in self._frames:
            parts: list[bytes] = []
            for event in frame.events:
                parts += (b"data: ", orjson.dumps(_shown(event)), b"\n\n")
            await send({"type": "http.response.body", "body": b"".join(parts), "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def _shown(event: events_pb2.Event) -> dict[str, Any]:
    if event.HasField("response"):
        ended = event.response.status == events_pb2.RUN_STATUS_COMPLETED
        status = "completed" if ended else "created"
        return {"sequence_number": event.sequence_number, "object": "response", "status": status}
    content = event.content
    return {
        "sequence_number": event.sequence_number,
        "object": "content",
        "status": "in_progress",
        "error": None,
        "type": "text",
        "index": content.index,
        "delta": True,
        "msg_id": content.msg_id,
        "text": content.text,
    }


def create_app(socket: str) -> FastAPI:
    link = Link()

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        running = asyncio.create_task(link.run(socket))
        yield
        running.cancel()

    app = FastAPI(lifespan=lifespan)

    @app.get("/health")
    async def health() -> str:
        return "OK"

    @app.post("/process")
    async def process(request: Request) -> Response:
        asked = orjson.loads(await request.body())
        return Events(link.ask(asked["input"][0]["content"][0]["text"]))

    return app


if __name__ == "__main__":
    uvicorn.run(
        create_app(sys.argv[2]), port=int(sys.argv[1]), loop="uvloop", http="httptools", access_log=False
    )
