"""Snapshots on a full disk, or in a directory that another program cleans up."""

import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from portico.sandbox import errors
from portico.sandbox.local.backend import LocalBackend
from portico.sandbox.manager.quotas import SandboxQuota, SandboxQuotas
from portico.sandbox.manager.snapshots import SnapshotStore
from portico.sandbox.spec import Spec


async def test_what_cannot_be_stored_is_typed_and_counts_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshots = SnapshotStore(
        tmp_path, SandboxQuotas(per_user=SandboxQuota(snapshots=1, snapshot_bytes=4 << 20))
    )
    async with LocalBackend() as backend:
        box = await backend.create(Spec())
        await box.run_cell("import os; open('a', 'wb').write(os.urandom(3 << 20))")
        with monkeypatch.context() as patched:
            full = SimpleNamespace(f_bavail=1 << 10, f_blocks=1 << 20, f_frsize=4096)
            patched.setattr(os, "fstatvfs", lambda _fd: full)
            for _ in range(3):
                with pytest.raises(errors.LimitExceeded, match="almost full") as caught:
                    await snapshots.take(box)
                assert caught.value.limit == "snapshot_bytes"
        (folder,) = tmp_path.iterdir()
        assert list(folder.iterdir()) == []
        taken = await snapshots.take(box)
        assert folder.stat().st_mode & 0o777 == 0o700
        shutil.rmtree(folder)
        with pytest.raises(errors.SnapshotNotFound, match="gone from the server's disk"):
            await snapshots.rollback(box, taken.id)
        assert (await box.run_shell("stat -c %s a")).stdout == b"3145728\n"  # the files were not removed
        snapshots.delete(taken.id)
        with pytest.raises(errors.OperationFailed, match="cannot store"):
            await snapshots.take(box)
    snapshots.close()
