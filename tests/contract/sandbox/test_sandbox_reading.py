"""Reads of parts of files: first size and version, then exactly the announced number of bytes."""

import asyncio

import pytest

from portico.sandbox import errors
from portico.sandbox.backend import Backend
from portico.sandbox.handle.files import Reading
from portico.sandbox.handle.sandbox_handle import SandboxHandle
from portico.sandbox.spec import Spec


async def read(reading: Reading) -> bytes:
    async with reading:
        return b"".join([piece async for piece in reading])


async def test_parts_of_a_file_are_told_before_they_come(backend: Backend) -> None:
    box = await backend.create(Spec())
    try:
        await box.files.write("a", bytes(range(100)))
        for offset, length, last, told in (
            (0, None, None, (0, 100)),
            (10, None, None, (10, 90)),
            (10, 5, None, (10, 5)),
            (90, 50, None, (90, 10)),
            (100, 5, None, (100, 0)),
            (1 << 40, None, None, (1 << 40, 0)),
            (0, None, 7, (93, 7)),
            (0, None, 700, (0, 100)),
        ):
            reading = await box.files.open("a", offset, length, last)
            assert (reading.offset, reading.length, reading.entry.size) == (*told, 100)
            assert await read(reading) == bytes(range(100))[told[0] : told[0] + told[1]]
        with pytest.raises(errors.EntryNotFound):
            await box.files.open("b")
        await _versions(box)
        await _shorter(box)
    finally:
        await box.destroy()


async def _versions(box: SandboxHandle) -> None:
    """A version changes with the content, even if sandboxed code resets the file's times."""
    async with asyncio.timeout(60):
        while not (first := (await box.files.stat("a")).version):
            await asyncio.sleep(0.2)
    async with await box.files.open("a") as reading:
        assert reading.entry.version == first
    change = "import os; t = os.stat('a'); open('a', 'r+').write('x')\n"
    back = "os.utime('a', ns=(t.st_atime_ns, t.st_mtime_ns))"
    assert (await box.run_cell(change + back)).end.error is None
    assert (await box.files.stat("a")).version == ""
    async with asyncio.timeout(60):
        while not (second := (await box.files.stat("a")).version):
            await asyncio.sleep(0.2)
    assert second != first
    assert (await box.files.stat(".")).version == ""


async def _shorter(box: SandboxHandle) -> None:
    """A read of a file that is truncated meanwhile ends with an error."""
    await box.run_cell("open('big', 'wb').truncate(20 << 20)")
    reading = await box.files.open("big")
    assert reading.length == 20 << 20
    await box.run_cell("open('big', 'r+b').truncate(100)")
    with pytest.raises(errors.OperationFailed):
        await read(reading)
