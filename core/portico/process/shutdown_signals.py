"""SIGTERM and SIGINT, heard by a thread: an event loop that is held up hears nothing."""

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


FLUSH_SECONDS = 5.0  # for the last lines of the log, before the process ends without them


class Stopping:
    """Tells the loop of a signal to end, and ends the process itself when that takes too long.

    Made on the event loop, in the main thread.
    """

    def __init__(self, flush: Callable[[], None]) -> None:
        """`flush` is called, in another thread, before the process is ended."""
        self.asked = asyncio.Event()
        self.seconds = 0.0  # that the process may take to end, from the signal on
        self._flush = flush
        self._loop = asyncio.get_running_loop()
        self._main = threading.get_ident()
        self._reads, self._writes = socket.socketpair()
        self._writes.setblocking(False)
        for number in SIGNALS:
            signal.signal(number, _heard)
        # The loop's own, through which it calls the handlers of others: it gets each signal too.
        self._of_loop = signal.set_wakeup_fd(self._writes.fileno(), warn_on_full_buffer=False)
        threading.Thread(target=self._wait, name="portico-stopping", daemon=True).start()

    def _wait(self) -> None:
        """In the thread, until the process ends."""
        asked = ""
        until = 0.0
        while True:
            self._reads.settimeout(max(until - time.monotonic(), 0.001) if asked else None)
            try:
                number = self._reads.recv(1)[0]
            except TimeoutError:
                self._end(asked)
            with suppress(OSError):  # the loop has been closed
                os.write(self._of_loop, bytes([number]))
            if number in SIGNALS and not asked:
                asked = signal.Signals(number).name
                until = time.monotonic() + self.seconds
                with suppress(RuntimeError):  # the same
                    self._loop.call_soon_threadsafe(self.asked.set)

    def _end(self, asked: str) -> NoReturn:
        # Whoever holds the log's lock may be what holds everything up.
        saying = threading.Thread(target=self._say, args=(asked,), daemon=True)
        saying.start()
        saying.join(FLUSH_SECONDS)
        os._exit(1)

    def _say(self, asked: str) -> None:
        frame = sys._current_frames().get(self._main)
        log.error(
            "%s is %.0f s ago and this process has not ended: ending it. Its main thread is at:\n%s",
            asked,
            self.seconds,
            "" if frame is None else stack(frame),
        )
        self._flush()


def _heard(_number: int, _frame: FrameType | None) -> None:
    """The thread has heard it too; without a handler the signal would end the process."""
