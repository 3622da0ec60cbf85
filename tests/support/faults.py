"""Faults of the machine under a process: a changed clock, a slow disk.

faults.c is compiled once and preloaded; its settings can change while the process runs.
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
    """Faults of the processes with its environment, and of their children."""

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
        """Shifts the wall clock by hours; the monotonic clock is unchanged."""
        self._set(0, hours * 3600)

    def slow_disk(self, seconds: float) -> None:
        """Delays every sync by seconds, and every positional write, as databases make, by a hundredth of
        that.
        """
        self._set(1, seconds)
        self._set(2, seconds / 100)

    def _set(self, which: int, seconds: float) -> None:
        _NUMBERS.pack_into(self._numbers, which * _NUMBERS.size, int(seconds * _NANOSECONDS))
