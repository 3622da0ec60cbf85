"""The machine's table of open files. The tests do not really fill it, because other programs use it, too."""

import asyncio
from pathlib import Path

import pytest

from portico.sandbox import errors
from portico.sandbox.bubblewrap.backend import BubblewrapBackend
from portico.sandbox.local import file_table_guard
from portico.sandbox.local.backend import LocalBackend
from portico.sandbox.spec import Spec

# Mappings keep files open, and the limit of descriptors does not count them.
HOARD = """
import ctypes, os
mmap = ctypes.CDLL(None).mmap
mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)
for _ in range(20_000):
    fd = os.open('/usr/bin/env', os.O_RDONLY)
    mmap(None, 4096, 1, 2, fd, 0)
    os.close(fd)
"""


@pytest.mark.parametrize("make", [LocalBackend, BubblewrapBackend])
async def test_who_holds_most_of_a_table_that_is_nearly_full_is_ended(
    make: type[LocalBackend] | type[BubblewrapBackend], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "file-nr"
    table.write_text("10 0 20000")
    monkeypatch.setattr(file_table_guard, "TABLE", table)
    async with make() as backend:
        if "memory" in backend.capabilities.missing:
            pytest.skip("NOT TESTED: no control group counts memory here")
        greedy, modest = [await backend.create(Spec()) for _ in range(2)]
        assert (await greedy.run_cell(HOARD)).ok
        table.write_text("16000 0 20000")
        async with asyncio.timeout(20):
            while greedy.gone is None:
                await asyncio.sleep(0.005)
        table.write_text("10 0 20000")
        failure = (await asyncio.gather(greedy.run_cell("1"), return_exceptions=True))[0]
        assert isinstance(failure, errors.SandboxGone)
        assert "open files" in str(failure)
        assert (await modest.run_cell("1 + 1")).ok


async def test_nobody_is_ended_for_what_others_have_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "file-nr"
    table.write_text("900000 0 1000000")
    monkeypatch.setattr(file_table_guard, "TABLE", table)
    monkeypatch.setattr(file_table_guard, "_SELDOM", 0.01)
    async with LocalBackend() as backend:
        box = await backend.create(Spec())
        await asyncio.sleep(0.5)
        assert (await box.run_cell("1 + 1")).ok
