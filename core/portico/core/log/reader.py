"""Log reader: replays a run's log from a cursor, then follows it, without a gap between both.

A reader's cursor is the number of the last event that it returned. Later events come from the run's ring if
it has them, else from the store. Both hold committed events only, in the same chunks, so they never disagree.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence

from portico.core.errors import RunNotFound
from portico.core.log.live_run import LiveRun
from portico.core.stores.ports.stores import Chunk, RunLog
from portico.core.wire import skip_events

READ_BYTES = 64 * 1024  # most bytes in a frame, unless a single chunk is larger


class LogReader:
    """Reads one run's log for one consumer, which owns the reader and must close it."""

    def __init__(
        self,
        log: RunLog,
        run_id: str,
        *,
        cursor: int,
        live: LiveRun | None,
        last: int,
        on_close: Callable[[], None],
    ) -> None:
        self.run_id = run_id
        self.cursor = cursor
        self._log = log
        self._live = live
        self._last = last  # number of the last event of a run that is not live
        self._moved = False
        self._on_close = on_close
        self._closed = False
        self._arrived = asyncio.Event()
        self._cut = False

    @property
    def finished(self) -> bool:
        """Whether all events were returned, and the log has ended or paused after one of them."""
        if self.is_behind:
            return False
        live = self._live
        return live is None or live.is_terminal_durable or (self._moved and live.paused_at == self.cursor)

    @property
    def is_behind(self) -> bool:
        """Whether there are events that this reader has not returned."""
        return self.cursor < (self._last if self._live is None else self._live.published)

    def subscribe(self, notify: Callable[[], None]) -> None:
        """Call `notify` whenever there may be new events; it must neither raise nor wait."""
        if self._live is not None:
            self._live.subscribe(notify)

    def unsubscribe(self, notify: Callable[[], None]) -> None:
        if self._live is not None:
            self._live.unsubscribe(notify)

    def poll(self, max_bytes: int = READ_BYTES) -> bytes | None:
        """Return a frame from memory.

        Args:
            max_bytes: Most bytes in the frame, unless a single chunk is larger.

        Returns:
            The frame; empty if there is no new event; None if the store must be read, with `fetch`.

        Raises:
            StoreUnavailable: The store rejects the run.
        """
        live = self._live
        chunks = live.recent_chunks(self.cursor) if live is not None else None
        if chunks is None:
            return b"" if self.finished else None
        if live is not None and live.refusal is not None and live.published < 0:
            raise live.refusal.with_traceback(None)
        return self._take(chunks, max_bytes)

    async def fetch(self, max_bytes: int = READ_BYTES) -> bytes:
        """Return a frame from the store. Raises RunNotFound if the run was deleted meanwhile."""
        frame = self._take(await self._log.read(self.run_id, self.cursor, max_bytes), max_bytes)
        if not frame and self.is_behind:
            raise RunNotFound(self.run_id)
        return frame

    async def frames(self) -> AsyncGenerator[bytes, None]:
        """Yield frames until the log ends or pauses."""
        arrived = self._arrived
        self.subscribe(arrived.set)
        try:
            while not self._cut:
                arrived.clear()
                frame = self.poll()
                if frame is None:
                    frame = await self.fetch()
                if frame:
                    yield frame
                elif self.finished:
                    return
                else:
                    await arrived.wait()
        finally:
            self.unsubscribe(arrived.set)

    def interrupt(self) -> None:
        """End `frames` after its present frame."""
        self._cut = True
        self._arrived.set()

    def close(self) -> None:
        """Release the reader. Safe to repeat."""
        if not self._closed:
            self._closed = True
            self._on_close()

    def _take(self, chunks: Sequence[Chunk], max_bytes: int) -> bytes:
        if len(chunks) == 1 and chunks[0].first == self.cursor + 1:
            self.cursor = chunks[0].last
            self._moved = True
            return chunks[0].data
        parts: list[bytes] = []
        size = 0
        for chunk in chunks:
            if parts and size + len(chunk.data) > max_bytes:
                break
            data = chunk.data
            if chunk.first <= self.cursor:
                data = skip_events(data, self.cursor + 1 - chunk.first)
            parts.append(data)
            size += len(data)
            self.cursor = chunk.last
        if not parts:
            return b""
        self._moved = True
        return parts[0] if len(parts) == 1 else b"".join(parts)
