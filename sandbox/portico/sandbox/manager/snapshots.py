"""Snapshots: copies of a sandbox's files, kept outside it, together with a checkpoint of its kernel inside
it.

The files are a tar stream, so they can be restored into any sandbox of any backend; that makes a fork. The
checkpoint is a stopped process inside the sandbox, so it can be restored only there.
"""

import asyncio
import errno
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Final

from portico.sandbox import errors
from portico.sandbox.handle.sandbox_handle import SandboxHandle
from portico.sandbox.local.process_owner import ProcessOwner
from portico.sandbox.manager.quotas import SandboxQuotas
from portico.sandbox.manager.registry import any_user
from portico.sandbox.mount_sources import closed
from portico.sandbox.spec import Spec

_PIECE: Final = 256 << 10  # bytes of one read
_BLOCK: Final = 1 << 20  # bytes of one write
_SPARE: Final = 0.05  # share of the disk's size that snapshots leave free
_FOLDER: Final = "portico-snapshots-"


@dataclass(frozen=True, slots=True)
class StoredSnapshot:
    """A snapshot's attributes, its owner, and the data that a fork needs."""

    id: str
    sandbox_id: str
    created: float  # Unix seconds
    size_bytes: int
    kernel: bool  # whether the kernel can be restored too, in the sandbox that it was taken of
    user_id: str = ""
    session_id: str = ""
    spec: Spec = field(default_factory=Spec)
    backend: str = ""


class SnapshotStore:
    """Snapshots in a temporary directory, which `close` removes."""

    def __init__(self, directory: Path | None = None, quotas: SandboxQuotas | None = None) -> None:
        """Creates the directory at the first snapshot.

        Args:
            directory: Parent of the temporary directory; None for the system's default.
            quotas: None for no limits.
        """
        self._directory = directory
        self._quotas = quotas or SandboxQuotas()
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._kept: dict[str, StoredSnapshot] = {}

    def close(self) -> None:
        """Deletes all snapshots."""
        if self._folder is not None:
            self._folder.cleanup()
        for snapshot in self._kept.values():
            self._release(snapshot)
        self._kept.clear()

    def listed(
        self, user_id: str | None = None, session_id: str | None = None, sandbox_id: str | None = None
    ) -> list[StoredSnapshot]:
        """Returns snapshots, newest first, of one user, session and sandbox; None means all."""
        found = [
            snapshot
            for snapshot in self._kept.values()
            if user_id in (None, snapshot.user_id)
            and session_id in (None, snapshot.session_id)
            and sandbox_id in (None, snapshot.sandbox_id)
        ]
        return sorted(found, key=lambda snapshot: (snapshot.created, snapshot.id), reverse=True)

    def get(self, snapshot_id: str, visible: Callable[[str], bool] = any_user) -> StoredSnapshot:
        """Returns a snapshot. Raises SnapshotNotFound, also for a user that is not visible."""
        snapshot = self._kept.get(snapshot_id)
        if snapshot is None or not visible(snapshot.user_id):
            raise errors.SnapshotNotFound(f"no snapshot {snapshot_id!r}")
        return snapshot

    async def take(
        self,
        box: SandboxHandle,
        kernel: bool = True,
        *,
        user_id: str = "",
        session_id: str = "",
        backend: str = "",
    ) -> StoredSnapshot:
        """Saves the files below /workspace, and the kernel if possible. Raises LimitExceeded, SandboxGone,
        SandboxTimeout, OperationFailed; in these cases nothing is kept."""
        name = f"snap_{secrets.token_hex(8)}"
        path, size = self._path(name), 0
        self._quotas.acquire("snapshots", user_id)
        try:
            with await asyncio.to_thread(open, path, "wb", buffering=0) as file:
                pending = bytearray()

                async def write(piece: bytes) -> None:
                    nonlocal size
                    self._quotas.acquire("snapshot_bytes", user_id, len(piece))
                    size += len(piece)
                    pending.extend(piece)
                    if len(pending) >= _BLOCK:
                        await flush()

                async def flush() -> None:
                    await asyncio.to_thread(_append, file, bytes(pending))
                    pending.clear()

                kernel = await box.save_kernel(write, name if kernel else "")
                await flush()
            if box.gone is not None:
                raise box.gone  # its user may have been deleted meanwhile, with all snapshots
        except BaseException as error:
            path.unlink(missing_ok=True)
            self._quotas.release("snapshots", user_id)
            self._quotas.release("snapshot_bytes", user_id, size)
            if isinstance(error, OSError):
                raise errors.OperationFailed(
                    f"the server cannot store the snapshot: {error.strerror}"
                ) from error
            raise
        spec = replace(box.spec, mounts=closed(box.spec.mounts))  # a fork opens them again
        taken = StoredSnapshot(name, box.id, time.time(), size, kernel, user_id, session_id, spec, backend)
        self._kept[name] = taken
        return taken

    async def rollback(self, box: SandboxHandle, snapshot_id: str) -> bool:
        """Restores the files, and the kernel if its checkpoint still exists; returns whether it was restored.

        Otherwise the sandbox gets a new kernel, because the old one's variables refer to the replaced files.
        Raises SnapshotNotFound.
        """
        snapshot = self.get(snapshot_id)
        own = snapshot.kernel and snapshot.sandbox_id == box.id
        try:
            file = await asyncio.to_thread(open, self._path(snapshot.id), "rb")
        except FileNotFoundError:  # the directory of temporary files was cleaned up
            raise errors.SnapshotNotFound(f"snapshot {snapshot_id} is gone from the server's disk") from None
        with file:
            return await box.restore(_pieces(file), snapshot.id if own else "")

    def delete(self, snapshot_id: str) -> None:
        """Deletes a snapshot. Raises SnapshotNotFound."""
        snapshot = self.get(snapshot_id)
        self._path(snapshot.id).unlink(missing_ok=True)
        del self._kept[snapshot_id]
        self._release(snapshot)

    def _release(self, snapshot: StoredSnapshot) -> None:
        self._quotas.release("snapshots", snapshot.user_id)
        self._quotas.release("snapshot_bytes", snapshot.user_id, snapshot.size_bytes)

    def _path(self, name: str) -> Path:
        if self._folder is None:
            # The name contains the owner, so that `sweep` can tell whether the owner is alive.
            prefix = f"{_FOLDER}{ProcessOwner.current().name}-"
            self._folder = tempfile.TemporaryDirectory(prefix=prefix, dir=self._directory)
        return Path(self._folder.name) / f"{name}.tar"


def sweep() -> None:
    """Removes the snapshots of owners that have died."""
    try:
        temporary = Path(tempfile.gettempdir())
    except FileNotFoundError:
        return  # no writable temporary directory on this machine
    for folder in temporary.glob(f"{_FOLDER}*"):
        owner = ProcessOwner.parse(folder.name.removeprefix(_FOLDER).rpartition("-")[0])
        if owner is not None and owner.ended():
            shutil.rmtree(folder, ignore_errors=True)


def _append(file: IO[bytes], data: bytes) -> None:
    """Writes all data. Raises LimitExceeded if the disk is almost full."""
    state = os.fstatvfs(file.fileno())
    full = errors.LimitExceeded("the server's disk for snapshots is almost full", "snapshot_bytes")
    if state.f_bavail * state.f_frsize < len(data) + _SPARE * state.f_blocks * state.f_frsize:
        raise full
    try:
        view = memoryview(data)
        while view:
            view = view[file.write(view) :]
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise full from error
        raise


async def _pieces(file: IO[bytes]) -> AsyncIterator[bytes]:
    while piece := await asyncio.to_thread(file.read, _PIECE):
        yield piece
