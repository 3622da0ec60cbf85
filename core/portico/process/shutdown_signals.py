"""Handles SIGTERM and SIGINT in a thread, because a blocked event loop can't."""

import asyncio
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import NoReturn

from portico.telemetry.metrics.loop_watch import stack

log = logging.getLogger(__name__)
SIGNALS = (signal.SIGTERM, signal.SIGINT)


FLUSH_SECONDS = 5.0  # longest wait for the last log lines before the process ends


class ShutdownSignals:
    """Sets an event on the loop at a signal to end; ends the process itself if that takes too long.

    Create it on the event loop, in the main thread.
    """

    def __init__(self, flush: Callable[[], None]) -> None:
        """`flush` runs in another thread before this object ends the process."""
        self.asked = asyncio.Event()
        self.seconds = 0.0  # longest time from the signal to the end of the process
        self._flush = flush
        self._loop = asyncio.get_running_loop()
        self._main = threading.get_ident()
        self._reads, self._writes = socket.socketpair()
        self._writes.setblocking(False)
        for number in SIGNALS:
            signal.signal(number, _heard)
        # The loop's wakeup descriptor, by which it calls signal handlers: each signal is forwarded to it.
        self._of_loop = signal.set_wakeup_fd(self._writes.fileno(), warn_on_full_buffer=False)
        threading.Thread(target=self._wait, name="portico-stopping", daemon=True).start()

    def _wait(self) -> None:
        """Body of the thread; runs until the process ends."""
        asked = ""
        until = 0.0
        while True:
            self._reads.settimeout(max(until - time.monotonic(), 0.001) if asked else None)
            try:
                number = self._reads.recv(1)[0]
            except TimeoutError:
                self._end(asked)
            with suppress(OSError):  # the loop is closed
                os.write(self._of_loop, bytes([number]))
            if number in SIGNALS and not asked:
                asked = signal.Signals(number).name
                until = time.monotonic() + self.seconds
                with suppress(RuntimeError):  # the loop is closed
                    self._loop.call_soon_threadsafe(self.asked.set)

    def _end(self, asked: str) -> NoReturn:
        # In another thread: the blocked code may hold the log's lock.
        saying = threading.Thread(target=self._say, args=(asked,), daemon=True)
        saying.start()
        saying.join(FLUSH_SECONDS)
        os._exit(1)

    def _say(self, asked: str) -> None:
        frame = sys._current_frames().get(self._main)
        log.error(
            "%s was received %.0f s ago and the process has not ended: killing it. Main thread at:\n%s",
            asked,
            self.seconds,
            "" if frame is None else stack(frame),
        )
        self._flush()


def _heard(_number: int, _frame: FrameType | None) -> None:
    """Does nothing: the thread handles the signal. Without a handler it would end the process."""
