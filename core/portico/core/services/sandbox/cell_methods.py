"""Methods of SandboxService that run cells."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, closing

from grpc.aio import ServicerContext

from portico.core.convert.requests import check_id
from portico.core.convert.sandboxes import cell_events, sandbox_to_proto, seconds_of, spec_from_proto
from portico.core.errors import InvalidArgument
from portico.core.sandboxes.sandbox_errors import translate_sandbox_errors
from portico.core.services.rpc.current_principal import current_principal, session_owner
from portico.core.services.rpc.dispatch import parse
from portico.core.services.sandbox.sandbox_methods import SandboxMethods
from portico.model.ids import new_id
from portico.sandbox.events import CellEvent, CellInput
from portico.sandbox.manager.registry import ManagedSandbox
from portico.v1 import sandbox_pb2 as pb


class SandboxCells(SandboxMethods):
    """Runs cells in existing sandboxes, or in new ones."""

    async def RunCell(
        self, request: pb.RunCellRequest, context: ServicerContext
    ) -> AsyncIterator[pb.RunCellResponse]:
        box = self._box(request.sandbox_id)
        with translate_sandbox_errors(sandbox_id=box.id):
            async with aclosing(box.cell_batches(request.code, _timeout(request))) as batches:
                async for batch in batches:
                    yield cell_events(batch)

    async def RunCells(
        self, requests: AsyncIterator[bytes], context: ServicerContext
    ) -> AsyncIterator[pb.RunCellsResponse]:
        held: ManagedSandbox | None = None
        with closing(_Inbox(requests)) as inbox:
            while (data := await inbox.take()) is not None:
                request = parse(pb.RunCellsRequest, data)
                introduced = held is not None
                if held is None:
                    if request.WhichOneof("sandbox") == "create":
                        held = await self._made(request.create)
                    else:
                        held = self._held(request.sandbox_id)
                    if not request.code:
                        yield pb.RunCellsResponse(sandbox=self._told(held))
                        continue
                elif request.WhichOneof("sandbox"):
                    raise InvalidArgument("sandbox", "may be set in the first request only")
                elif request.HasField("answer"):
                    continue  # the cell that asked has ended
                # Looked up for each request: the sandbox may have ended.
                box = self._box(held.handle.id)
                with translate_sandbox_errors(sandbox_id=box.id):
                    cell = box.cell_batches(request.code, _timeout(request), allow_input=request.allow_input)
                    async with aclosing(_answered(cell, inbox) if request.allow_input else cell) as batches:
                        if not introduced:
                            first = asyncio.ensure_future(anext(batches))
                            try:
                                # Start the cell first: it runs while the response about its sandbox is sent.
                                await asyncio.sleep(0)
                                yield pb.RunCellsResponse(sandbox=self._told(held))
                                yield pb.RunCellsResponse(cell=cell_events(await first))
                            finally:
                                first.cancel()
                                await asyncio.gather(first, return_exceptions=True)
                        async for batch in batches:
                            yield pb.RunCellsResponse(cell=cell_events(batch))

    async def _made(self, request: pb.CreateSandboxRequest) -> ManagedSandbox:
        session_id = check_id(request.session_id or new_id("session_"), "session_id")
        user_id = session_owner(request.user_id, session_id)
        key = check_id(request.idempotency_key, "idempotency_key", required=False)
        spec = spec_from_proto(request.spec, self._sandboxes.policy.defaults())
        backend = request.spec.backend
        # A new session has no sandbox yet; it gets this one.
        if key:
            # If the request names neither user nor session, the generated session differs in a repeat, so the
            # key must not depend on it.
            said = request.user_id or request.session_id or not current_principal().trusts_request_user
            owner = user_id if said else ""
            held = await self._sandboxes.get_or_create_keyed(
                (owner, key), user_id, session_id, spec, backend, fresh=request.fresh
            )
        elif request.fresh:
            held = await self._sandboxes.create(user_id, session_id, spec, backend)
        else:
            held = await self._sandboxes.get_or_create_own(user_id, session_id, spec, backend)
        return held

    def _told(self, held: ManagedSandbox) -> pb.Sandbox:
        return sandbox_to_proto(held, self._sandboxes.tier(held))


def _timeout(request: pb.RunCellRequest | pb.RunCellsRequest) -> float | None:
    return seconds_of(request.timeout, "timeout") if request.HasField("timeout") else None


class _Inbox:
    """Requests of one call; the next one can be awaited beside other work."""

    def __init__(self, requests: AsyncIterator[bytes]) -> None:
        self._requests = requests
        self._coming: asyncio.Task[bytes | None] | None = None

    async def take(self) -> bytes | None:
        """The next request; None after the last."""
        coming, self._coming = self._coming, None
        return await (self._next() if coming is None else coming)

    def coming(self) -> "asyncio.Task[bytes | None]":
        """A task that is done when `take` would return at once."""
        if self._coming is None:
            self._coming = asyncio.create_task(self._next())
        return self._coming

    async def _next(self) -> bytes | None:
        return await anext(self._requests, None)

    def close(self) -> None:
        if self._coming is not None:
            self._coming.cancel()


async def _answered(
    cell: AsyncGenerator[list[CellEvent], None], inbox: _Inbox
) -> AsyncGenerator[list[CellEvent], None]:
    """Yields a cell's batches of events, and answers its input() calls from the requests."""
    asked: CellInput | None = None
    batch = asyncio.ensure_future(anext(cell, None))
    try:
        while True:
            waited = {batch} if asked is None else {batch, inbox.coming()}
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            if batch.done():
                events = batch.result()
                if events is None:
                    return
                asked = next((one for one in events if isinstance(one, CellInput)), None)
                yield events
                batch = asyncio.ensure_future(anext(cell, None))
            elif asked is not None:
                question, asked = asked, None
                await question.answer(_line(await inbox.take()))
    finally:
        batch.cancel()
        await asyncio.gather(batch, return_exceptions=True)
        await cell.aclose()


def _line(data: bytes | None) -> str | None:
    """The answer in a request; None for end of input or after the last request. Raises InvalidArgument."""
    if data is None:
        return None
    request = parse(pb.RunCellsRequest, data)
    if not request.HasField("answer"):
        raise InvalidArgument("answer", "is required: the cell waits for input")
    return None if request.answer.eof else request.answer.text
