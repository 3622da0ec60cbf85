"""Starts a core without gateways, for gRPC clients in any language."""

import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from benchmarks.servers import HERE, STOP_SECONDS, NotStarted


class Core:
    """A running core."""

    def __init__(self, target: str, process: psutil.Process) -> None:
        self.target, self.process = target, process

    def children(self) -> list[psutil.Process]:
        """Returns all its descendant processes."""
        return self.process.children(recursive=True)


@contextmanager
def running(*options: str) -> Iterator[Core]:
    """Starts an empty core on a Unix socket, as gateways use it; stops it at the end."""
    with tempfile.TemporaryDirectory(prefix="portico-bench-") as name:
        command = [sys.executable, "-m", "portico.core", str(HERE / "agents/tokens.py")]
        command += ["--listen", f"unix:{name}/core.sock", "--store", "memory://", *options]
        log = Path(name) / "core.log"
        with log.open("wb") as output:
            child = subprocess.Popen(command, stdout=output, stderr=subprocess.PIPE, text=True)
        assert child.stderr is not None
        try:
            said = ""
            for line in child.stderr:
                said += line
                if "serving on " in line:
                    break
            else:
                raise NotStarted(f"{command!r} ended; it said\n{said[-4000:]}")
            yield Core(line.rpartition(" ")[2].strip(), psutil.Process(child.pid))
        finally:
            child.send_signal(signal.SIGTERM)
            try:
                child.communicate(timeout=STOP_SECONDS)
            except subprocess.TimeoutExpired:
                child.kill()
                child.communicate()
