"""Saves and restores the live kernel of a sandbox together with the files of its workspace."""

import asyncio
from collections.abc import AsyncIterable, Awaitable, Callable
from contextlib import aclosing
from typing import Protocol

from portico.sandbox import errors
from portico.sandbox.handle.call import CallMaker
from portico.sandbox.handle.deadlines import Deadline
from portico.sandbox.handle.files import Files
from portico.sandbox.handle.replies import Reply


class KernelOwner(CallMaker, Protocol):
    """The handle of a sandbox, as far as its kernel's state needs it."""

    files: Files

    async def restart_kernel(self) -> None: ...

    def require(self, ability: str) -> None: ...


class KernelState:
    """Checkpoints of one sandbox's kernel. Each operation waits for a running cell."""

    def __init__(self, box: KernelOwner, running: asyncio.Lock) -> None:
        """`running` is a lock that is held while a cell runs."""
        self._box = box
        self._running = running

    async def keep(self, take: Callable[[bytes], Awaitable[None]], checkpoint: str) -> bool:
        """See `keep` of the sandbox handle."""
        async with self._running:
            async with aclosing(self._box.files.pack(still=True)) as pieces:
                async for piece in pieces:
                    await take(piece)
            try:
                if checkpoint:
                    await self._checkpoint(checkpoint)
            except (errors.InvalidRequest, errors.Unsupported):
                return False  # the kernel has as many checkpoints as it can keep, or cannot make any
        return bool(checkpoint)

    async def restore(self, pieces: AsyncIterable[bytes], checkpoint: str) -> bool:
        """See `restore` of the sandbox handle."""
        async with self._running:
            await self._box.files.unpack(pieces, clear=True, exact=True, still=True)
            if checkpoint:
                try:
                    await self._roll_back(checkpoint)
                    return True
                except (errors.SnapshotNotFound, errors.KernelDied, errors.SandboxTimeout):
                    pass  # the kernel with the checkpoint has died
            await self._box.restart_kernel()
        return False

    async def checkpoint(self, name: str) -> None:
        """See `checkpoint` of the sandbox handle."""
        async with self._running:
            await self._checkpoint(name)

    async def roll_back(self, name: str) -> None:
        """See `rollback` of the sandbox handle."""
        async with self._running:
            await self._roll_back(name)

    async def _checkpoint(self, name: str) -> None:
        self._box.require("checkpoints")
        answer = await self._ask("checkpoint", name)
        if answer.has("error"):
            raise errors.InvalidRequest(answer.text("error"))

    async def _roll_back(self, name: str) -> None:
        answer = await self._ask("rollback", name)
        if answer.has("error"):
            raise errors.SnapshotNotFound(answer.text("error"))

    async def _ask(self, op: str, name: str) -> Reply:
        """Makes a call; kills a kernel that does not answer in time. Raises SandboxTimeout, KernelDied."""
        call = self._box.call(op, id=name)
        expired = Deadline(call, self._box.spec.limits.call_seconds)
        try:
            return await call.answer()
        except errors.SandboxError:
            if expired.passed:
                raise errors.SandboxTimeout(expired.seconds, kernel_lost=True) from None
            raise
        finally:
            expired.stop()
            if not call.ended:
                await call.abort()
