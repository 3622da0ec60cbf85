"""Lines for a file, written in a thread of their own, in order, and none of them lost to a full queue."""

import logging
import logging.handlers
import os
import queue
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

WAITING = 10_000  # lines; who writes more waits for the disk


class _Waiting(logging.handlers.QueueHandler):
    def __init__(self, waiting: "queue.Queue[logging.LogRecord]") -> None:
        super().__init__(waiting)
        self._waiting = waiting

    def enqueue(self, record: logging.LogRecord) -> None:
        self._waiting.put(record)


@contextmanager
def written(logger: logging.Logger, path: Path) -> Iterator[None]:
    """What the logger is told goes to the file, and nowhere else. Only its owner may read it; it may be
    moved away at any time, and is then begun anew. Raises OSError."""
    os.close(os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600))
    file = logging.handlers.WatchedFileHandler(path, encoding="utf-8")
    waiting: queue.Queue[logging.LogRecord] = queue.Queue(WAITING)
    handler = _Waiting(waiting)
    listener = logging.handlers.QueueListener(waiting, file)
    level, propagate = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    listener.start()
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate
        listener.stop()
        file.close()
