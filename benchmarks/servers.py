"""Starts and stops the two sides, one at a time, each with its own Python."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Literal

import psutil

from benchmarks.results import Process, Side

HERE = Path(__file__).parent
ROOT = HERE.parent
PEER_PYTHON = ROOT / ".peer/bin/python"
START_SECONDS = 60
STOP_SECONDS = 20
READY = {"peer": "/health", "portico": "/readiness", "bare": "/health"}
Served = Side | Literal["bare"]
ROLES = {"portico.cli": "supervisor", "portico.core": "core", "portico.gateways": "gateway"}


class NotStarted(Exception):
    """A side did not start."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running side."""

    side: Served
    port: int
    process: psutil.Process
    directory: Path
    credential: str = ""  # an API key, if every call requires one

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", self.port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def memory(self) -> list[Process]:
        """Returns the memory of every process of this side."""
        return sorted((_memory(self.side, each) for each in self._tree()), key=lambda process: process.role)

    def cpu_seconds(self) -> dict[str, float]:
        """Returns the CPU seconds of its processes by role."""
        spent: dict[str, float] = {}
        for process in self._tree():
            times, role = process.cpu_times(), _role(self.side, process.cmdline())
            spent[role] = spent.get(role, 0.0) + times.user + times.system
        return spent

    def _tree(self) -> list[psutil.Process]:
        return [self.process, *self.process.children(recursive=True)]


@contextmanager
def running(
    side: Served,
    *,
    a2a: bool = False,
    environment: Mapping[str, str] | None = None,
    credential: str = "",
) -> Iterator[Server]:
    """Starts a side with an empty store; stops it at the end.

    The peer of A2A is its SDK. With `credential`, Portico requires an API key, and the server has one with
    all scopes.
    """
    port, rpc_port = free_ports(2)
    with tempfile.TemporaryDirectory(prefix="portico-bench-", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        if side == "peer" and a2a:
            command = [sys.executable, str(HERE / "peer/a2a_app.py"), str(port)]
        elif side == "peer":
            command = [str(PEER_PYTHON), str(HERE / "peer/app.py"), str(port)]
        elif side == "bare":
            command = [sys.executable, "-m", "benchmarks.bare", str(port), name]
        else:
            tokens = str(HERE / "agents/tokens.py")
            command = [sys.executable, "-m", "portico.cli", "run", tokens, "--port", str(port)]
            command += ["--grpc-port", str(rpc_port), "--data-dir", str(directory / "data")]
        log = directory / "output.log"
        auth = {"PORTICO_CORE_AUTH": "true", "PORTICO_CORE_ADMIN_KEY": credential} if credential else {}
        with log.open("wb") as output:
            child = subprocess.Popen(
                command,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=ROOT if side == "bare" else directory,
                env={**os.environ, **auth, **(environment or {})},
                start_new_session=True,
            )
        try:
            _wait_until_ready(child, port, READY[side], log)
            yield Server(side, port, psutil.Process(child.pid), directory, credential)
        finally:
            _stop(child)


def needs() -> None:
    """Raises NotStarted when a benchmark's tool is missing."""
    if shutil.which("wrk") is None:
        raise NotStarted("wrk is missing: apt-get install wrk")
    if not PEER_PYTHON.exists():
        raise NotStarted("the peer's venv is missing: make peer")


def free_ports(count: int) -> Sequence[int]:
    """Returns ports on which nothing listens."""
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports


def _wait_until_ready(child: subprocess.Popen[bytes], port: int, path: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and child.poll() is None:
        connection = HTTPConnection("127.0.0.1", port, timeout=2)
        try:
            connection.request("GET", path)
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass  # not listening yet
        finally:
            connection.close()
        time.sleep(0.1)
    raise NotStarted(f"{child.args!r} is not ready; its output ends\n{log.read_text()[-4000:]}")


def _stop(child: subprocess.Popen[bytes]) -> None:
    """Stops the whole process group: first SIGTERM, then SIGKILL."""
    child.send_signal(signal.SIGTERM)
    try:
        child.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        pass  # the group is killed below
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass  # the group has ended
    child.wait()


def _memory(side: Served, process: psutil.Process) -> Process:
    memory = process.memory_full_info()
    return Process(role=_role(side, process.cmdline()), pss=memory.pss / 2**20, rss=memory.rss / 2**20)


def _role(side: Served, command: Sequence[str]) -> str:
    if side == "peer":
        return "server"
    return next((role for module, role in ROLES.items() if module in command), "other")
