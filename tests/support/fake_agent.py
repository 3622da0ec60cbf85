"""An agent that sends a test's frames, at the other end of a real sandbox's channel."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Any

from portico.sandbox import errors
from portico.sandbox.events import CellResult, ShellResult
from portico.sandbox.handle.sandbox_handle import SandboxHandle
from portico.sandbox.inside import wire
from portico.sandbox.spec import Spec

Make = Callable[[int, dict[str, Any]], Iterable[bytes]]

OPERATIONS: dict[str, Callable[[SandboxHandle], Awaitable[Any]]] = {
    "begin": lambda box: box.initialize({}),
    "cell": lambda box: _end_of(box.run_cell("1")),
    "shell": lambda box: _end_of(box.run_shell("x", stdin=b"y")),
    "checkpoint": lambda box: box.checkpoint("a"),
    "rollback": lambda box: box.rollback("a"),
    "restart": lambda box: box.restart_kernel(),
    "reset": lambda box: box.reset(),
    "metrics": lambda box: box.metrics(),
    "connect": lambda box: _talk(box),
    "read": lambda box: box.files.read("a"),
    "part": lambda box: _part(box),
    "write": lambda box: box.files.write("a", "b" * 100_000),
    "stat": lambda box: box.files.stat("a"),
    "list": lambda box: box.files.list_directory(),
    "mkdir": lambda box: box.files.make_directory("a"),
    "move": lambda box: box.files.move("a", "b"),
    "remove": lambda box: box.files.remove("a"),
    "search": lambda box: box.files.search(text="a"),
    "edit": lambda box: box.files.edit("a", [("a", "b")]),
    "watch": lambda box: _all(box.files.watch()),
    "pack": lambda box: _all(box.files.pack()),
    "unpack": lambda box: box.files.unpack(_pieces()),
    "processes": lambda box: box.processes.list_all(),
    "start": lambda box: box.processes.start("x"),
    "attach": lambda box: _all(aiter(box.processes.attach(3))),
    "input": lambda box: box.processes.write(3, b"x" * 100_000, end=True),
    "wait": lambda box: box.processes.wait(3),
    "signal": lambda box: box.processes.signal(3, 9),
    "resize": lambda box: box.processes.resize(3, 1, 1),
}


async def _part(box: SandboxHandle) -> bytes:
    async with await box.files.open("a", last=1) as reading:
        return b"".join([piece async for piece in reading])


class FakeBox(SandboxHandle):
    """A sandbox with its agent's end."""

    far: socket.socket

    async def destroy(self, cause: str = "destroyed") -> None:
        self.channel.lost(errors.SandboxGone("it was a test", cause))


@asynccontextmanager
async def faked(make: Make | None = None, spec: Spec | None = None) -> AsyncIterator[FakeBox]:
    """Creates a sandbox whose agent answers each call with the frames of `make`, and then disconnects.

    Without `make` the agent sends nothing, and the test uses its end of the stream.
    """
    near, far = socket.socketpair()
    near.setblocking(False)
    far.setblocking(False)
    box = FakeBox("sbx_fake", spec or Spec())
    box.far = far
    await asyncio.get_running_loop().create_unix_connection(lambda: box.channel, sock=near)
    serving = asyncio.ensure_future(_serve(far, make)) if make else None
    try:
        yield box
    finally:
        if serving is not None:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)
        await box.destroy()
        await asyncio.sleep(0)
        far.close()


async def _serve(far: socket.socket, make: Make) -> None:
    loop, parser = asyncio.get_running_loop(), wire.Parser()
    with suppress(OSError):
        while data := await loop.sock_recv(far, 1 << 16):
            for number, kind, payload in parser.feed(data):
                if kind == wire.CALL:
                    for frame in make(number, json.loads(payload)):
                        await loop.sock_sendall(far, frame)
                    far.shutdown(socket.SHUT_WR)


async def _end_of(result: Awaitable[CellResult | ShellResult]) -> None:
    """Raises the error that prevented the end."""
    ended = await result
    failure = ended.end.failure if isinstance(ended, CellResult) else ended.failure
    if failure is not None:
        raise failure


async def _talk(box: SandboxHandle) -> None:
    connection = await box.connect(80)
    try:
        await connection.write(b"x")
        while await connection.read():
            pass
    finally:
        await connection.close()


async def _all(items: AsyncIterator[Any]) -> list[Any]:
    return [item async for item in items]


async def _pieces() -> AsyncIterator[bytes]:
    yield b"x" * 100_000
