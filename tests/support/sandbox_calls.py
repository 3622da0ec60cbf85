"""Helpers that run cells and commands in a sandbox."""

import asyncio
from typing import Any

from portico.client import Client, FailedPrecondition
from portico.v1 import sandbox_pb2


async def cell(client: Client, sandbox_id: str, code: str, **more: Any) -> tuple[str, sandbox_pb2.CellEnd]:
    """Returns a cell's output and its end."""
    said = b""
    events = [event async for event in client.sandboxes.run_cell(sandbox_id, code, **more)]
    for event in events[:-1]:
        said += event.stdout or event.rich.data.get("text/plain", b"")
    assert events[-1].HasField("end")
    return said.decode(), events[-1].end


async def command(
    client: Client, sandbox_id: str, line: str | list[str], **more: Any
) -> tuple[str, sandbox_pb2.ProcessEnd]:
    """Returns a command's output and its end."""
    events = [event async for event in client.sandboxes.run_command(sandbox_id, line, **more)]
    assert events[-1].HasField("end")
    return b"".join(event.stdout for event in events[:-1]).decode(), events[-1].end


async def gone(client: Client, sandbox_id: str) -> FailedPrecondition:
    """Waits until a sandbox has ended."""
    async with asyncio.timeout(30):
        while True:
            try:
                await client.sandboxes.get(sandbox_id)
            except FailedPrecondition as error:
                return error
            await asyncio.sleep(0.02)
