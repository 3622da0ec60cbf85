"""Snapshots: back to an earlier state, and on in another sandbox."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from portico.sandbox import errors
from portico.sandbox.backend import Backend
from portico.sandbox.box import Box
from portico.sandbox.snapshots import Snapshots


@pytest.fixture
def snapshots(tmp_path: Path) -> Iterator[Snapshots]:
    kept = Snapshots(tmp_path)
    yield kept
    kept.close()
    assert not list(tmp_path.iterdir())


async def test_rollback_takes_files_and_variables_back(
    backend: Backend, box: Box, snapshots: Snapshots
) -> None:
    await box.files.write("d/kept", "old")
    await box.run_cell("x = 1")
    snapshot = await snapshots.take(box)
    await box.files.write("d/kept", "new")
    await box.files.write("added", "")
    await box.run_cell("x = 2")
    with_kernel = "checkpoints" not in backend.capabilities.missing
    assert await snapshots.rollback(box, snapshot.id) == with_kernel
    assert await box.files.read("d/kept") == b"old"
    assert not await box.files.exists("added")
    if with_kernel:
        assert (await box.run_cell("x")).rich[0].data["text/plain"] == b"1"
    await box.run_cell("import os; os._exit(1)")
    assert not await snapshots.rollback(box, snapshot.id)
    assert (await box.run_cell("x")).end.error is not None
    snapshots.forget(box.id)
    with pytest.raises(errors.SnapshotNotFound):
        await snapshots.rollback(box, snapshot.id)


async def test_a_fork_has_the_files_and_is_independent(
    backend: Backend, box: Box, snapshots: Snapshots
) -> None:
    await box.files.write("shared", "1")
    fork = await snapshots.fork(backend.create, box)
    await fork.files.write("shared", "2")
    assert await box.files.read("shared") == b"1"
    assert fork.id != box.id
    assert fork.spec == box.spec
    assert snapshots.listed() == []
