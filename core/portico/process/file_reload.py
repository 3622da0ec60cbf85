"""Files that change under a process, such as certificates: read again, and used when they are good."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, TypeVar

log = logging.getLogger(__name__)

POLL_SECONDS = 5.0

T = TypeVar("T")
_Stamps = tuple[tuple[int, int, int] | None, ...]


class Watched:
    """Files as they are now: make it before they are read for the first time."""

    def __init__(self, *files: Path | None) -> None:
        """Blocks."""
        self.files = [file for file in files if file is not None]
        self._used = self._stamps()

    async def follow(self, load: Callable[[], T], use: Callable[[T], None]) -> NoReturn:
        """When one of the files has changed, `load` in a thread, which raises ValueError for files that can't
        be used, and `use` on the loop what it returns. Until they can be used what was used before stays."""
        refused: _Stamps | None = None
        while True:
            await asyncio.sleep(POLL_SECONDS)
            found = await asyncio.to_thread(self._stamps)
            if found == self._used:
                continue
            try:
                loaded = await asyncio.to_thread(load)
                if await asyncio.to_thread(self._stamps) != found:
                    continue  # they are being replaced: some may be old and some new
                use(loaded)
            except ValueError as error:
                if found != refused:
                    log.error("changed files can't be used, and those from before stay in use: %s", error)
                refused = found
            except Exception:
                log.exception("changed files can't be used, and those from before stay in use")
                self._used = found
            else:
                self._used, refused = found, None
                log.info("changed files are in use: %s", ", ".join(map(str, self.files)))

    def _stamps(self) -> _Stamps:
        """What differs when a file was written, or another has its name, or a link leads elsewhere."""
        return tuple(map(_stamp, self.files))


def _stamp(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size
