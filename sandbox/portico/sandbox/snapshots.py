"""Snapshots: a sandbox's files at a moment, kept outside it, and its live kernel beside them.

Files are a tar stream, so they can be restored into any sandbox of any backend: that is what a fork is. A
kernel is kept by the sandbox itself, as a sleeping process, and can only come back there.
"""

import asyncio
import secrets
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from portico.sandbox import errors
from portico.sandbox.box import Box
from portico.sandbox.spec import Spec

_PIECE: Final = 256 << 10  # bytes


@dataclass(frozen=True, slots=True)
class Snapshot:
    id: str
    sandbox_id: str
    created: float  # Unix seconds
    size_bytes: int
    kernel: bool  # can it take back variables too, in the sandbox it was made of?


class Snapshots:
    """Snapshots in a directory of their own, which goes with `close`."""

    def __init__(self, directory: Path | None = None) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="portico-snapshots-", dir=directory)
        self._kept: dict[str, Snapshot] = {}

    def close(self) -> None:
        self._folder.cleanup()
        self._kept.clear()

    def list_all(self, sandbox_id: str | None = None) -> list[Snapshot]:
        return [snapshot for snapshot in self._kept.values() if sandbox_id in (None, snapshot.sandbox_id)]

    async def take(self, box: Box, kernel: bool = True) -> Snapshot:
        """Keeps the files below /workspace, and the kernel if it can be. Raises SandboxGone."""
        name = f"snap_{secrets.token_hex(8)}"
        size = 0
        with await asyncio.to_thread(open, self._path(name), "wb") as file:
            async with aclosing(box.files.pack()) as pieces:
                async for piece in pieces:
                    size += len(piece)
                    await asyncio.to_thread(file.write, piece)
        if kernel:
            try:
                await box.checkpoint(name)
            except (errors.InvalidRequest, errors.Unsupported):
                kernel = False  # there are as many checkpoints as a kernel can keep, or none can be made
        snapshot = self._kept[name] = Snapshot(name, box.id, time.time(), size, kernel)
        return snapshot

    async def rollback(self, box: Box, snapshot_id: str) -> bool:
        """Takes files back, and the kernel too if it is still kept; says whether it was.

        Otherwise the sandbox goes on with a new kernel, because the old one's variables belong to other
        files. Raises SnapshotNotFound.
        """
        snapshot = self._get(snapshot_id)
        await self._restore(box, snapshot)
        if snapshot.kernel and snapshot.sandbox_id == box.id:
            try:
                await box.rollback(snapshot.id)
                return True
            except (errors.SnapshotNotFound, errors.KernelDied):
                pass  # the kernel that kept it has died
        await box.restart_kernel()
        return False

    async def fork(
        self, create: Callable[[Spec], Awaitable[Box]], source: Box, snapshot_id: str | None = None
    ) -> Box:
        """A new sandbox like another, with its files as they are now or were then, and a kernel that knows
        nothing. It is made by `create`: who counts and owns sandboxes is to know of this one, too.
        """
        taken = await self.take(source, kernel=False) if snapshot_id is None else self._get(snapshot_id)
        try:
            box = await create(source.spec)
            try:
                await self._restore(box, taken)
            except BaseException:
                await box.destroy()
                raise
            return box
        finally:
            if snapshot_id is None:
                self.delete(taken.id)

    def delete(self, snapshot_id: str) -> None:
        """Raises SnapshotNotFound."""
        self._path(self._get(snapshot_id).id).unlink(missing_ok=True)
        del self._kept[snapshot_id]

    def forget(self, sandbox_id: str) -> None:
        """Deletes what belongs to a sandbox that has ended."""
        for snapshot in self.list_all(sandbox_id):
            self.delete(snapshot.id)

    async def _restore(self, box: Box, snapshot: Snapshot) -> None:
        with await asyncio.to_thread(open, self._path(snapshot.id), "rb") as file:
            await box.files.unpack(_pieces(file), clear=True)

    def _path(self, name: str) -> Path:
        return Path(self._folder.name) / f"{name}.tar"

    def _get(self, snapshot_id: str) -> Snapshot:
        try:
            return self._kept[snapshot_id]
        except KeyError:
            raise errors.SnapshotNotFound(f"no snapshot {snapshot_id!r}") from None


async def _pieces(file: IO[bytes]) -> AsyncIterator[bytes]:
    while piece := await asyncio.to_thread(file.read, _PIECE):
        yield piece
