"""Terminals over WebSocket: /sandboxes/{id}/terminal.

Binary frames carry input and output. Text frames are JSON: {"rows": …, "columns": …} from the caller to
resize, {"end": …} or {"error": …} from the gateway as the last frame.
"""

import asyncio
from contextlib import suppress
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Query
from starlette.websockets import WebSocket, WebSocketDisconnect

from portico.client import PorticoError
from portico.client.sandboxes.code import to_command
from portico.client.sandboxes.streams import Terminal
from portico.gateways.http.core_connection import CoreConnection, caller_metadata
from portico.gateways.sse.errors import error_json
from portico.gateways.sse.sandbox.sandbox_encoding import end_json

routes = APIRouter()

_BAD = 1007  # WebSocket close code for an invalid frame
_SIZE = 65_536

Size = Annotated[int, Query(ge=0, lt=_SIZE)]


@routes.websocket("/sandboxes/{sandbox_id}/terminal")
async def terminal(
    socket: WebSocket, sandbox_id: str, command: str = "", rows: Size = 24, columns: Size = 80
) -> None:
    """Runs a shell, or `command`, in a terminal of `rows` by `columns` characters."""
    core: CoreConnection = socket.app.state.core
    metadata = caller_metadata(socket.scope["headers"])
    client = core.client.with_options(metadata=metadata) if metadata else core.client
    run = to_command(command) if command else None
    await socket.accept()
    try:
        opened = await client.sandboxes.open_terminal(sandbox_id, run, rows=rows, columns=columns)
    except PorticoError as error:
        await _last(socket, error_json(error.reason or error.code.name, error.message, error.metadata))
        return
    async with opened:
        typing = asyncio.create_task(_typed(socket, opened))
        showing = asyncio.create_task(_shown(socket, opened))
        try:
            await asyncio.wait({typing, showing}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            typing.cancel()
            showing.cancel()
            await asyncio.gather(typing, showing, return_exceptions=True)


async def _typed(socket: WebSocket, opened: Terminal) -> None:
    while True:
        message = await socket.receive()
        if message["type"] == "websocket.disconnect":
            return
        if message.get("bytes") is not None:
            await opened.write(message["bytes"])
            continue
        try:
            size: Any = orjson.loads(message["text"])
            await opened.resize(int(size["rows"]) % _SIZE, int(size["columns"]) % _SIZE)
        except (ValueError, TypeError, KeyError):
            await socket.close(_BAD)
            return


async def _shown(socket: WebSocket, opened: Terminal) -> None:
    try:
        async for item in opened:
            if item.HasField("end"):
                await _last(socket, {"end": end_json(item.end)})
                return
            await socket.send_bytes(item.output)
    except PorticoError as error:
        await _last(socket, error_json(error.reason or error.code.name, error.message, error.metadata))
    except WebSocketDisconnect:
        pass  # the caller has disconnected


async def _last(socket: WebSocket, value: dict[str, Any]) -> None:
    with suppress(WebSocketDisconnect):
        await socket.send_text(orjson.dumps(value).decode())
        await socket.close()
