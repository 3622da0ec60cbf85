"""Pauses of a sandbox: everything inside stands still until it is resumed, or until the next call."""

import asyncio
import time
from collections.abc import Awaitable

from portico.sandbox import errors
from portico.sandbox.channel import Channel


class Pausable:
    """The part of a sandbox that pauses and resumes it. The other parts set `gone` and `channel`."""

    channel: Channel
    gone: errors.SandboxGone | None

    def __init__(self) -> None:
        self.paused = False
        self.asleep = False  # paused until the next call
        self.last_used = time.monotonic()
        self._turning: asyncio.Task[None] | None = None  # pauses or resumes

    async def pause(self) -> None:
        """Stops everything inside. Calls raise SandboxPaused until it is resumed. Raises Unsupported."""
        if self.gone is not None:
            raise self.gone
        self.asleep = False
        if not self.paused:
            await asyncio.shield(self._turn(True))

    async def sleep(self) -> None:
        """Stops everything inside until the next call, which resumes it. Raises Unsupported."""
        if self.gone is None and not self.paused:
            self.asleep = True
            await asyncio.shield(self._turn(True))

    async def resume(self) -> None:
        """Lets everything inside go on; its idle time begins anew."""
        if self.gone is not None:
            raise self.gone
        self.last_used = time.monotonic()
        if self.paused:
            await asyncio.shield(self._turn(False))

    def _turn(self, paused: bool) -> asyncio.Task[None]:
        """Pauses or resumes; waits for a pause or resume that is under way, or else acts at once."""
        before = self._turning
        begun = self._freeze(paused) if before is None or before.done() else None
        self.paused = paused
        self.asleep = self.asleep and paused

        async def turn() -> None:
            try:
                if before is not None:
                    await asyncio.wait({before})
                await (begun or self._freeze(paused))
            except errors.SandboxError:
                if paused:
                    self.paused = self.asleep = False
                else:  # open calls would never end
                    self.channel.lost(errors.SandboxGone("it cannot be resumed", "killed"))
                raise

        self._turning = task = asyncio.create_task(turn())
        task.add_done_callback(lambda done: done.cancelled() or done.exception())  # the callers raise it
        return task

    def _freeze(self, frozen: bool) -> Awaitable[None]:
        """Stops everything inside, or lets it go on."""
        raise errors.Unsupported("this backend cannot pause")
