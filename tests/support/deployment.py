"""Real processes: those that `portico run` starts, and faults that they must survive."""

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import psutil

SCRIPTED = Path(__file__).parents[1] / "end_to_end" / "agents" / "scripted.py"
READY_SECONDS = 120


def free_port() -> int:
    """Returns a port on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Deployment:
    """A `portico run` of a file, in its own directory."""

    def __init__(
        self,
        file: Path,
        directory: Path,
        *options: str,
        env: dict[str, str] | None = None,
        command: list[str] | None = None,
        ports: tuple[int, int] | None = None,
    ) -> None:
        """Starts it; `command` starts it in another way, on the given HTTP and gRPC ports."""
        self.directory = directory
        self.log = directory / "portico.log"
        self.http_port, self.grpc_port = ports or (free_port(), free_port())
        self._command = command or [
            *(sys.executable, "-m", "portico.cli", "run", str(file), "--data-dir", str(directory)),
            *("--port", str(self.http_port), "--grpc-port", str(self.grpc_port), *options),
        ]
        self._env = {**os.environ, **(env or {})}
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.grpc_port}"

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = psutil.Popen(
                self._command, stdout=log, stderr=log, env=self._env, cwd=self.directory
            )
        try:
            self.wait_ready()
        except BaseException:
            self.process.kill()  # its child processes end with it
            raise

    def wait_ready(self) -> None:
        until = time.monotonic() + READY_SECONDS
        while time.monotonic() < until:
            if self._ready():
                return
            assert self.process.is_running(), self.log.read_text()
            assert self.process.status() != psutil.STATUS_ZOMBIE, self.log.read_text()
            time.sleep(0.05)
        raise AssertionError(self.log.read_text())

    def _ready(self) -> bool:
        # A new httpx client for each check would use more CPU time than the process that starts.
        connection = HTTPConnection("127.0.0.1", self.http_port, timeout=5)
        try:
            connection.request("GET", "/readiness")
            return connection.getresponse().status == 200
        except (OSError, HTTPException):
            return False
        finally:
            connection.close()

    def child(self, module: str) -> psutil.Process:
        """Returns the core's process (portico.core) or the gateway's (portico.gateways)."""
        until = time.monotonic() + READY_SECONDS
        while time.monotonic() < until:
            for child in self.process.children():
                try:
                    if module in child.cmdline():
                        return child
                except psutil.Error:
                    continue
            time.sleep(0.02)
        raise AssertionError(f"no {module} process; {self.log.read_text()}")

    def kill(self, module: str) -> None:
        """Kills a child with SIGKILL; its supervisor starts another."""
        child = self.child(module)
        child.kill()
        child.wait(10)

    def stop(self) -> int:
        if self.process.is_running():
            self.process.send_signal(signal.SIGTERM)
        try:
            status: int = self.process.wait(30)
        except psutil.TimeoutExpired:
            for child in self.process.children(recursive=True):
                child.kill()
            self.process.kill()
            raise AssertionError(f"did not stop; {self.log.read_text()}") from None
        return status


def ask(text: str, **more: object) -> dict[str, object]:
    """Returns a request body of the SSE gateway."""
    return {"input": [{"role": "user", "content": [{"type": "text", "text": text}]}], **more}


async def eventually(check: Callable[[], bool], seconds: float = 10) -> None:
    """Waits until check() is true."""
    until = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < until, "it did not come true"
        await asyncio.sleep(0.02)
