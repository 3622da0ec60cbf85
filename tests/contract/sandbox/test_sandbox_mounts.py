"""Mounts show the directory that the core opened, even if the path leads elsewhere a moment later."""

import asyncio
import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import Popen

import pytest
from support.folders import open_to_all

from portico.core.errors import InvalidArgument
from portico.core.sandboxes.allowed_mounts import AllowedMounts
from portico.sandbox import errors, visible_files
from portico.sandbox.backend import Backend
from portico.sandbox.spec import Mount, Spec

EXCHANGE = 2
AT_FDCWD = -100
SWAPS = """
import ctypes
call = ctypes.CDLL(None).renameat2
while True:
    call(-100, b"x", -100, b"y", 2)
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A directory allowed as a mount, with a directory x and a link y to a directory that is not allowed."""
    with open_to_all() as place:
        for name in ("data/x", "secret"):
            (place / name).mkdir(parents=True)
            (place / name / "note").write_text(name)
        (place / "data/y").symlink_to(place / "secret")
        yield place / "data"


@contextmanager
def swapping(folder: Path) -> Iterator[None]:
    """Swap directory and link repeatedly, as a sandbox with write access could."""
    with Popen([sys.executable, "-c", SWAPS], cwd=folder) as swapper:
        try:
            yield
        finally:
            swapper.kill()


def swap(folder: Path) -> None:
    x, y = os.fsencode(folder / "x"), os.fsencode(folder / "y")
    assert ctypes.CDLL(None).renameat2(AT_FDCWD, x, AT_FDCWD, y, EXCHANGE) == 0


async def test_a_directory_swapped_for_a_link_after_it_was_allowed_is_not_followed(
    backend: Backend, folder: Path
) -> None:
    allowed = AllowedMounts((f"{folder}:rw",))
    spec = Spec(mounts=allowed.open_mounts((Mount(f"{folder}/x", "/data", writable=True),)))
    swap(folder)
    try:
        box = await backend.create(spec)
    except errors.BackendUnavailable:
        return
    assert await box.files.read("/data/note") == b"data/x"


async def test_a_race_for_a_mount_is_never_won(backend: Backend, folder: Path) -> None:
    allowed = AllowedMounts((f"{folder}:rw",))
    asked = (Mount(f"{folder}/x", "/data", writable=True),)
    with swapping(folder):
        for _ in range(3 if backend.name.startswith("docker") else 10):
            mounts: tuple[Mount, ...] = ()
            for _ in range(100):
                try:
                    mounts = allowed.open_mounts(asked)
                    break
                except InvalidArgument:
                    await asyncio.sleep(0)
            try:
                box = await backend.create(Spec(mounts=mounts))
            except errors.BackendUnavailable:
                continue
            if mounts:
                assert await box.files.read("/data/note") == b"data/x"
            await box.destroy()


async def test_a_directory_that_was_replaced_is_another_one(backend: Backend, folder: Path) -> None:
    mount = Mount(f"{folder}/x", "/data")
    first = await backend.create(Spec(mounts=(mount,)))
    (folder / "x").rename(folder / "old")
    (folder / "x").mkdir()
    (folder / "x/note").write_text("new")
    second = await backend.create(Spec(mounts=(mount,)))
    assert await first.files.read("/data/note") == b"data/x"
    assert await second.files.read("/data/note") == b"new"


async def test_a_file_can_be_shown(backend: Backend, folder: Path) -> None:
    mounts = AllowedMounts((str(folder),)).open_mounts((Mount(f"{folder}/x/note", "/data/note"),))
    box = await backend.create(Spec(mounts=mounts))
    assert (await box.run_shell("cat /data/note")).stdout == b"data/x"
    assert not (await box.run_shell("echo y > /data/note")).ok


@pytest.mark.parametrize(
    "targets",
    [
        ("/data", "/data/x"), ("/data", "/data"), ("/./proc",), ("/data/../etc",), ("/home/user",),
        ("/.portico",), ("/opt/conda/lib",), ("/var/tmp",), ("/app/.venv",),
        tuple(f"/data/{number}" for number in range(33)), ("/root/x",), ("/usr",), ("/data//x",),
    ],
)  # fmt: skip
def test_a_target_that_would_cover_something_is_refused(targets: tuple[str, ...]) -> None:
    with pytest.raises(errors.InvalidRequest, match="mounts"):
        Spec(mounts=tuple(Mount("/srv", target) for target in targets)).check()


async def test_no_descriptor_is_left(backend: Backend, folder: Path) -> None:
    box = await backend.create(Spec(mounts=(Mount(f"{folder}/x", "/data"),)))
    assert await box.files.read("/data/note") == b"data/x"
    await box.destroy()
    await backend.close()
    del box, backend
    for _ in range(100):
        if not any(path == f"{folder}/x" for path in descriptors()):
            return
        await asyncio.sleep(0.02)
    pytest.fail("the directory is still open")


async def test_no_mount_covers_the_python_that_the_agent_runs(backend: Backend, folder: Path) -> None:
    version = os.path.basename(os.path.dirname(os.__file__))
    library = f"/usr/local/lib/{version}"  # the image's, or a fallback if the environment shows none
    if not backend.name.startswith("docker"):
        library = next((path for path in visible_files.environment() if path.endswith(version)), library)
    for target in (library, f"{library}/site-packages", os.path.dirname(library)):
        with pytest.raises(errors.InvalidRequest, match="mounts"):
            await backend.create(Spec(mounts=(Mount(f"{folder}/x", target),)))


def descriptors() -> list[str]:
    paths = []
    for name in os.listdir("/proc/self/fd"):
        try:
            paths.append(os.readlink(f"/proc/self/fd/{name}"))
        except FileNotFoundError:
            continue
    return paths
