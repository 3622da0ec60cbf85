"""Long or endless work in a sandbox has a deadline, can be cancelled, and does not delay other calls."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable
from typing import Any

import pytest

from portico.sandbox import errors
from portico.sandbox.backend import Backend
from portico.sandbox.handle.port_connection import Connection
from portico.sandbox.handle.sandbox_handle import SandboxHandle
from portico.sandbox.spec import Limits, Spec

MIB = 1 << 20
_LINES = [f"{number}\n" for number in range(300)] * 390
OLD = "".join(random.Random(1).sample(_LINES, len(_LINES)))
NEW = "".join(random.Random(2).sample(_LINES, len(_LINES)))  # the diff takes about 20 seconds


@pytest.fixture
async def hasty(backend: Backend) -> SandboxHandle:
    limits = Limits(memory_bytes=512 * MIB, processes=64, disk_bytes=64 * MIB, inodes=2_000, call_seconds=3)
    return await backend.create(Spec(limits=limits))


async def _meanwhile(box: SandboxHandle, long: Awaitable[Any]) -> "asyncio.Future[Any]":
    """Start the work, and make other calls, which end first."""
    task = asyncio.ensure_future(long)
    await asyncio.sleep(0.3)
    assert (await box.run_cell("1 + 1")).ok
    assert await box.files.exists(".")
    assert not task.done()
    return task


async def test_an_edit_that_takes_for_ever_has_a_deadline(hasty: SandboxHandle) -> None:
    await hasty.files.write("a.txt", OLD)
    editing = hasty.files.edit("a.txt", [(OLD, NEW)])
    task = await _meanwhile(hasty, editing)
    with pytest.raises(errors.SandboxTimeout):
        await task
    assert await hasty.files.read("a.txt") == OLD.encode()
    assert [entry.path for entry in await hasty.files.list_directory()] == ["./a.txt"]


async def test_an_edit_that_is_given_up_ends(hasty: SandboxHandle) -> None:
    await hasty.files.write("a.txt", OLD)
    before = (await hasty.metrics()).processes
    task = await _meanwhile(hasty, hasty.files.edit("a.txt", [(OLD, NEW)]))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await hasty.metrics()).processes == before
    assert await hasty.files.read("a.txt") == OLD.encode()


async def test_large_edits_are_made_or_refused_as_a_whole(hasty: SandboxHandle) -> None:
    text = "".join(f"{number}\n" for number in range(20_000))
    await hasty.files.write("a.txt", text)
    diff = await hasty.files.edit("a.txt", [("777\n", "seven\n")])
    assert "-777\n+seven\n" in diff
    assert "seven" in (await hasty.files.read("a.txt")).decode()
    await hasty.files.write("b.txt", "x" * MIB * 2)
    with pytest.raises(errors.LimitExceeded) as raised:
        await hasty.files.edit("b.txt", [("x" * 100, "y")])
    assert raised.value.limit == "output"
    assert await hasty.files.read("b.txt") == b"x" * MIB * 2
    with pytest.raises(errors.EditMismatch):
        await hasty.files.edit("a.txt", [("not there", "y")])
    await hasty.files.write("c.txt", b"\xff" * 100_000)
    with pytest.raises(errors.InvalidRequest):
        await hasty.files.edit("c.txt", [("x", "y")])
    await hasty.files.write("d.txt", bytes(9 * MIB))
    with pytest.raises(errors.InvalidRequest):
        await hasty.files.edit("d.txt", [("x", "y")])


async def test_a_directory_of_many_entries_is_listed_in_order(hasty: SandboxHandle) -> None:
    await hasty.run_shell("mkdir d; cd d; for n in $(seq 1 700); do : > f$n; done; mkdir e; : > e/x")
    entries = await hasty.files.list_directory("d", depth=2)
    paths = [entry.path for entry in entries]
    assert paths == sorted(paths)
    assert len(paths) == 702
    assert paths[:2] == ["d/e", "d/e/x"]
    with pytest.raises(errors.EntryNotFound):
        await hasty.files.list_directory("none")


async def test_a_listener_whose_backlog_is_full_holds_up_nothing(hasty: SandboxHandle) -> None:
    await hasty.run_cell(
        "import socket\ns = socket.socket(); s.bind(('127.0.0.1', 8123)); s.listen(0)\n"
        "kept = []\nfor _ in range(8):\n"
        "    c = socket.socket(); c.setblocking(False); c.connect_ex(('127.0.0.1', 8123)); kept.append(c)"
    )
    connecting = [asyncio.ensure_future(hasty.connect(8123)) for _ in range(4)]
    await asyncio.sleep(0.1)
    assert (await hasty.run_cell("1 + 1")).ok
    assert not all(task.done() for task in connecting)
    results = await asyncio.gather(*connecting, return_exceptions=True)
    assert {type(result) for result in results} <= {errors.PortRefused, Connection}
    with pytest.raises(errors.PortRefused):
        await hasty.connect(8124)


async def test_an_upload_whose_file_is_taken_away_fails_alone(hasty: SandboxHandle) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"x" * 1000
        await hasty.run_shell("rm -f .a.txt.*")
        yield b"y" * 1000

    with pytest.raises(errors.EntryNotFound):
        await hasty.files.upload("a.txt", pieces())
    assert (await hasty.run_cell("1 + 1")).ok


async def test_an_upload_may_wait_for_its_caller(hasty: SandboxHandle) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"x" * 200_000
            await asyncio.sleep(1.5)

    assert await hasty.files.upload("a.txt", pieces()) == 600_000


async def test_a_kernel_that_reads_nothing_holds_up_no_other_call(hasty: SandboxHandle) -> None:
    await hasty.run_cell("import os, signal; parent = os.getpid()")
    await hasty.run_shell("kill -STOP -1 2>/dev/null; true")
    cell = asyncio.ensure_future(hasty.run_cell("x = '" + "y" * 2_000_000 + "'", timeout=20))
    await asyncio.sleep(0.2)
    assert await hasty.files.exists(".")
    await hasty.restart_kernel()
    assert isinstance((await cell).end.failure, errors.SandboxError)
    assert (await hasty.run_cell("1 + 1")).ok


async def test_a_restart_and_the_cells_that_come_meanwhile(hasty: SandboxHandle) -> None:
    await hasty.run_cell("x = 1")
    restarts = [asyncio.ensure_future(hasty.restart_kernel()) for _ in range(3)]
    await asyncio.sleep(0)  # the requests are sent
    result = await hasty.run_cell("'x' in globals()")
    await asyncio.gather(*restarts)
    assert result.ok, result
    assert result.rich[0].data["text/plain"] == b"False"
