"""Faults of the machine under a process: a clock that is set, a disk that is slow.

faults.c is compiled once and preloaded; what it does is changed while the process runs.
"""

import mmap
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Final

import pytest

_SOURCE: Final = Path(__file__).with_suffix(".c")
_NUMBERS: Final = struct.Struct("=q")
_NANOSECONDS: Final = 1_000_000_000


class Faults:
    """Of the processes that get its environment, and of their children."""

    def __init__(self, directory: Path) -> None:
        compiler = shutil.which("cc")
        if compiler is None:
            pytest.skip("NOT TESTED: clocks that jump, and slow disks: there is no C compiler (make engines)")
        library, numbers = directory / "faults.so", directory / "faults"
        command = [compiler, "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", str(library), str(_SOURCE)]
        subprocess.run([*command, "-ldl"], check=True)
        numbers.write_bytes(bytes(3 * _NUMBERS.size))
        with numbers.open("r+b") as file:
            self._numbers = mmap.mmap(file.fileno(), 0)
        self.env = {"LD_PRELOAD": str(library), "PORTICO_FAULTS": str(numbers)}

    def set_clock(self, hours: float) -> None:
        """The date, so far off from now on; the time that goes by stays what it is."""
        self._set(0, hours * 3600)

    def slow_disk(self, seconds: float) -> None:
        """How much longer every sync takes from now on; a write at a place, as databases do, a hundredth."""
        self._set(1, seconds)
        self._set(2, seconds / 100)

    def _set(self, which: int, seconds: float) -> None:
        _NUMBERS.pack_into(self._numbers, which * _NUMBERS.size, int(seconds * _NANOSECONDS))
