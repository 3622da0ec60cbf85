"""Control groups of dead owners."""

import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from portico.sandbox.local import cgroups
from portico.sandbox.local.process_owner import ProcessOwner


@pytest.fixture
def left(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Path]]:
    """Groups of a dead owner, inner ones first, in a directory that no other process sweeps."""
    places = cgroups.find(ProcessOwner(os.getpid(), 1)).places()
    for place in places:
        cgroups._remove(place)
    if not places:
        pytest.skip("NOT TESTED: no control groups can be made here")
    root = places[0].parent / f"test-{os.getpid()}"
    monkeypatch.setattr(cgroups, "_ROOT", root)
    top = root / f"portico-{ProcessOwner(os.getpid(), 1).name}"  # an earlier process with the same pid
    groups = [top / f"sbx_{number}" for number in range(100)]
    for group in (root, top, *groups):
        group.mkdir()
    yield [*groups, top]
    for group in (*groups, top, root):
        if group.exists():
            group.rmdir()


def test_several_sweep_at_once(left: list[Path]) -> None:
    """One sweep removes groups that another is reading, or about to read."""
    with ThreadPoolExecutor(8) as threads:
        swept = [future.result() for future in [threads.submit(cgroups.sweep) for _ in range(8)]]
    assert sum(swept) >= len(left)
    assert not [group for group in left if group.exists()]


def test_what_is_left_in_a_group_is_killed(left: list[Path]) -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        (left[0] / "cgroup.procs").write_text(str(process.pid))
        cgroups.sweep()
        assert process.wait(5) == -9
    assert not left[0].exists()


def test_what_is_left_frozen_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    root = Path(f"/sys/fs/cgroup/freezer/test-{os.getpid()}")
    if not os.access(root.parent, os.W_OK):
        pytest.skip("NOT TESTED: no freezer of version 1 can be had here")
    monkeypatch.setattr(cgroups, "_ROOT", root)
    group = root / f"portico-{ProcessOwner(os.getpid(), 1).name}" / "sbx_frozen"
    group.mkdir(parents=True)
    with subprocess.Popen(["sleep", "60"]) as process:
        try:
            (group / "cgroup.procs").write_text(str(process.pid))
            (group / "freezer.state").write_text("FROZEN")
            assert cgroups.sweep() == 2
            assert process.wait(5) == -9
            assert not group.parent.exists()
        finally:
            if group.exists():
                (group / "freezer.state").write_text("THAWED")
    root.rmdir()


def test_those_of_another_user_are_that_users(left: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: left[0].stat().st_uid + 1)
    cgroups.sweep()
    assert all(group.exists() for group in left)
