"""Describes the machine and the versions of a section."""

import os
import platform
import subprocess
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import psutil

from benchmarks import wrk
from benchmarks.results import Machine
from benchmarks.servers import PEER_PYTHON

# In CPUs: a try during which the host gave more of them to other machines is not reliable.
STOLEN = 0.05


class Host:
    """The host of a virtual machine, observed from now on."""

    def __init__(self) -> None:
        self._taken, self._began = psutil.cpu_times().steal, time.monotonic()

    def stolen(self) -> float:
        """Returns the average number of CPUs that the host gave to other machines."""
        return (psutil.cpu_times().steal - self._taken) / (time.monotonic() - self._began)


def describe() -> Machine:
    """Describes this machine now."""
    return Machine(
        cores=os.cpu_count() or 0,
        processor=_processor(),
        kernel=platform.release(),
        filesystem=_filesystem(Path(tempfile.gettempdir()).resolve()),
        python=platform.python_version(),
        portico=version("portico-runtime"),
        peer=_peer_version(),
        wrk=wrk.version(),
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _filesystem(path: Path) -> str:
    mounts = {Path(part.mountpoint): part.fstype for part in psutil.disk_partitions(all=True)}
    return next(mounts[parent] for parent in (path, *path.parents) if parent in mounts)


def _peer_version() -> str:
    code = "from importlib.metadata import version; print(version('agentscope-runtime'))"
    told = subprocess.run([PEER_PYTHON, "-c", code], check=True, capture_output=True, text=True)
    return told.stdout.strip()
