"""A browser can't start anything on the gRPC port: pages can't send cleartext HTTP/2 or the header `te`."""

import asyncio
from pathlib import Path
from typing import Any

from support.serving import running_core

from portico.agent import AgentApp
from portico.v1 import events_pb2, query_pb2

METHOD = b"/portico.v1.QueryService/StartRun"


def frame(kind: int, flags: int, stream_id: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3) + bytes([kind, flags]) + stream_id.to_bytes(4) + payload


def literal(name: bytes, value: bytes) -> bytes:
    """An uncompressed header (RFC 7541, 6.2.2)."""
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


def call(stream_id: int, words: str, **headers: bytes) -> bytes:
    """HTTP/2 frames of a call that starts a run."""
    query = query_pb2.StartRunRequest()
    message = query.query.request.input.add(role=events_pb2.ROLE_USER)
    message.content.add(type=events_pb2.CONTENT_TYPE_TEXT, text=words)
    body = query.SerializeToString()
    sent = {b":method": b"POST", b":scheme": b"http", b":path": METHOD, b":authority": b"localhost"}
    sent |= {name.replace("_", "-").encode(): value for name, value in headers.items()}
    head = b"".join(literal(name, value) for name, value in sent.items())
    data = b"\0" + len(body).to_bytes(4) + body
    return frame(1, 4, stream_id, head) + frame(0, 1, stream_id, data)


async def answer(socket: Path, data: bytes, until: bytes) -> bytes:
    """Reads until these bytes arrive or the connection ends."""
    reader, writer = await asyncio.open_unix_connection(socket)
    told = b""
    async with asyncio.timeout(30):
        writer.write(data)
        while until not in told and (piece := await reader.read(4096)):
            told += piece
    writer.close()
    return told


async def test_a_page_cannot_call_the_core(tmp_path: Path) -> None:
    ran: list[str] = []
    app = AgentApp("agent")

    @app.query
    async def query(msgs: list[Any]) -> str:
        ran.append(msgs[-1].text)
        return "done"

    async with running_core([app], tmp_path):
        socket = tmp_path / "core.sock"
        old = b"POST " + METHOD + b" HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n"
        assert b"HTTP/1." not in await answer(socket, old, b"HTTP/1.")
        page = {"origin": b"https://evil.example"}
        calls = [
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b""),
            call(1, "a page", content_type=b"text/plain", **page),
            call(3, "a page", content_type=b"application/grpc", **page),
            call(5, "a program", content_type=b"application/grpc", te=b"trailers"),
        ]
        assert b"resp_" in await answer(socket, b"".join(calls), b"resp_")
    assert ran == ["a program"]
