"""Keeps the live kernel of a sandbox, with the files of its workspace, and takes both back."""

import asyncio
from collections.abc import AsyncIterable, Awaitable, Callable
from contextlib import aclosing
from typing import TYPE_CHECKING

from portico.sandbox import errors
from portico.sandbox.answers import Answer
from portico.sandbox.channel import Deadline

if TYPE_CHECKING:
    from portico.sandbox.box import Box


class KernelState:
    """Checkpoints and rollbacks of one sandbox. Each waits for the cell that runs."""

    def __init__(self, box: "Box", running: asyncio.Lock) -> None:
        """`running` is held while a cell runs."""
        self._box = box
        self._running = running

    async def keep(self, take: Callable[[bytes], Awaitable[None]], checkpoint: str) -> bool:
        """See Box.keep."""
        async with self._running:
            async with aclosing(self._box.files.pack(still=True)) as pieces:
                async for piece in pieces:
                    await take(piece)
            try:
                if checkpoint:
                    await self._checkpoint(checkpoint)
            except (errors.InvalidRequest, errors.Unsupported):
                return False  # there are as many checkpoints as a kernel can keep, or none can be made
        return bool(checkpoint)

    async def restore(self, pieces: AsyncIterable[bytes], checkpoint: str) -> bool:
        """See Box.restore."""
        async with self._running:
            await self._box.files.unpack(pieces, clear=True, exact=True, still=True)
            if checkpoint:
                try:
                    await self._roll_back(checkpoint)
                    return True
                except (errors.SnapshotNotFound, errors.KernelDied, errors.SandboxTimeout):
                    pass  # the kernel that kept it has died
            await self._box.restart_kernel()
        return False

    async def checkpoint(self, name: str) -> None:
        """See Box.checkpoint."""
        async with self._running:
            await self._checkpoint(name)

    async def roll_back(self, name: str) -> None:
        """See Box.rollback."""
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

    async def _ask(self, op: str, name: str) -> Answer:
        """Kills a kernel that does not answer in time. Raises SandboxTimeout, KernelDied."""
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
