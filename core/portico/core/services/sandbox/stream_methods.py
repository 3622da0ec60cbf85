"""Methods of SandboxService with bytes in both directions: terminals and ports."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any

from grpc.aio import ServicerContext

from portico.core.convert.requests import check_id
from portico.core.convert.sandboxes import command_words, process_end
from portico.core.errors import InvalidArgument
from portico.core.sandboxes.port_tokens import expired_token_error
from portico.core.sandboxes.sandbox_errors import translate_sandbox_errors
from portico.core.services.rpc.dispatch import parse
from portico.core.services.sandbox.sandbox_methods import SandboxMethods, check_port
from portico.sandbox import errors
from portico.sandbox.events import ProcessEnd, Stderr, Stdout
from portico.sandbox.file_names import from_text
from portico.sandbox.handle.port_connection import Connection
from portico.sandbox.handle.processes import Attachment, Processes
from portico.v1 import sandbox_pb2 as pb

DEFAULT_TERMINAL_SIZE = (24, 80)  # rows and columns of a terminal


class SandboxStreams(SandboxMethods):
    """Opens terminals in sandboxes and connects to their ports."""

    async def OpenTerminal(
        self, requests: AsyncIterator[bytes], context: ServicerContext
    ) -> AsyncIterator[pb.OpenTerminalResponse]:
        start = (await _first(requests, pb.OpenTerminalRequest)).start
        box = self._box(start.sandbox_id)
        command = command_words(start.command, "start.command") if start.command.arguments else ["/bin/bash"]
        size = _size(start.size) if start.HasField("size") else DEFAULT_TERMINAL_SIZE
        with translate_sandbox_errors(sandbox_id=box.id, path=start.command.cwd):
            env = {"TERM": "xterm-256color", **start.command.env}
            starting = asyncio.create_task(
                box.processes.start(command, cwd=from_text(start.command.cwd), env=env, terminal=size)
            )
            try:
                info = await asyncio.shield(starting)
                attached = box.processes.attach(info.pid)
                typing = _typed(requests, attached, box.processes, info.pid)
                async with _beside(typing, attached.close), aclosing(aiter(attached)) as events:
                    async for event in events:
                        if isinstance(event, Stdout | Stderr):
                            yield pb.OpenTerminalResponse(output=event.data)
                        elif isinstance(event, ProcessEnd):
                            yield pb.OpenTerminalResponse(end=process_end(event))
            finally:
                # If the caller leaves while the process starts, the process must still be killed.
                with suppress(errors.SandboxError):
                    await box.processes.signal((await starting).pid, signal.SIGKILL)

    async def ConnectPort(
        self, requests: AsyncIterator[bytes], context: ServicerContext
    ) -> AsyncIterator[pb.ConnectPortResponse]:
        start = (await _first(requests, pb.ConnectPortRequest)).start
        port, left = start.port, None
        if start.access_token:
            # The access token is a credential itself.
            sandbox_id, port, left = self._sandboxes.ports.verify(start.access_token)
            box = self._sandboxes.get(sandbox_id).handle
        else:
            box = self._box(check_id(start.sandbox_id, "start.sandbox_id"))
        with translate_sandbox_errors(sandbox_id=box.id, port=port):
            connection = await box.connect(check_port(port, "start.port"))
            try:
                yield pb.ConnectPortResponse()
                async with (
                    _beside(_expire(left), connection.close),
                    _beside(_sent(requests, connection), connection.close),
                ):
                    while data := await connection.read():
                        yield pb.ConnectPortResponse(data=data)
            finally:
                await connection.close()


async def _first(requests: AsyncIterator[bytes], kind: Any) -> Any:
    """The first request of a call. Raises InvalidArgument unless it is a start."""
    data = await anext(requests, None)
    first = None if data is None else parse(kind, data)
    if first is None or first.WhichOneof("event") != "start":
        raise InvalidArgument("start", "is required in the first request")
    return first


@asynccontextmanager
async def _beside(
    work: Coroutine[Any, Any, None], when_failed: Callable[[], Awaitable[None]]
) -> AsyncIterator[None]:
    """Runs `work` (the other direction of a stream) within the context. If `work` fails, `when_failed` ends
    the reading, and the context raises the error."""
    closing: list[asyncio.Task[None]] = []

    async def close() -> None:
        await when_failed()

    def ended(done: asyncio.Task[None]) -> None:
        if not done.cancelled() and done.exception() is not None:
            closing.append(asyncio.ensure_future(close()))

    task = asyncio.create_task(work)
    task.add_done_callback(ended)
    try:
        yield
        if task.done() and not task.cancelled():
            task.result()
    finally:
        task.cancel()
        await asyncio.gather(task, *closing, return_exceptions=True)


async def _typed(
    requests: AsyncIterator[bytes], attached: Attachment, processes: Processes, pid: int
) -> None:
    async for data in requests:
        request = parse(pb.OpenTerminalRequest, data)
        match request.WhichOneof("event"):
            case "input":
                await attached.write(request.input)
            case "size":
                await processes.resize(pid, *_size(request.size))
            case _:
                raise InvalidArgument("event", "set input or size")


async def _sent(requests: AsyncIterator[bytes], connection: Connection) -> None:
    async for data in requests:
        await connection.write(parse(pb.ConnectPortRequest, data).data)
    connection.end_write()


async def _expire(seconds: float | None) -> None:
    """Raises SandboxNotFound after so many seconds, when the access token has expired; None never expires."""
    if seconds is not None:
        await asyncio.sleep(seconds)
        raise expired_token_error()


def _size(size: pb.TerminalSize) -> tuple[int, int]:
    """Rows and columns. Raises InvalidArgument."""
    if not (0 < size.rows < 10_000 and 0 < size.columns < 10_000):
        raise InvalidArgument("size", "rows and columns must be between 1 and 9999")
    return size.rows, size.columns
