"""Reloads files that change while a process runs, such as certificates, once they are valid."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, TypeVar

log = logging.getLogger(__name__)

POLL_SECONDS = 5.0

T = TypeVar("T")
_Stamps = tuple[tuple[int, int, int] | None, ...]


class ReloadedFiles:
    """Detects changes of files; create it before the files are read for the first time."""

    def __init__(self, *files: Path | None) -> None:
        """Reads the files' current state. Blocks."""
        self.files = [file for file in files if file is not None]
        self._used = self._stamps()

    async def follow(self, load: Callable[[], T], use: Callable[[T], None]) -> NoReturn:
        """Checks the files regularly, for ever.

        Args:
            load: Reads the files after a change; runs in a thread. It raises ValueError for unusable files;
                the previous content then stays in use.
            use: Receives the result of `load` on the event loop.
        """
        refused: _Stamps | None = None
        while True:
            await asyncio.sleep(POLL_SECONDS)
            found = await asyncio.to_thread(self._stamps)
            if found == self._used:
                continue
            try:
                loaded = await asyncio.to_thread(load)
                if await asyncio.to_thread(self._stamps) != found:
                    continue  # the files are being replaced: some may be old and some new
                use(loaded)
            except ValueError as error:
                if found != refused:
                    log.error("changed files can't be used; the previous ones stay in use: %s", error)
                refused = found
            except Exception:
                log.exception("changed files can't be used; the previous ones stay in use")
                self._used = found
            else:
                self._used, refused = found, None
                log.info("changed files are in use: %s", ", ".join(map(str, self.files)))

    def _stamps(self) -> _Stamps:
        """Values that differ once a file was written or replaced, or a link has another target."""
        return tuple(map(_stamp, self.files))


def _stamp(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size
