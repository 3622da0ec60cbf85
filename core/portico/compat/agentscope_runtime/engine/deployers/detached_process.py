"""A `portico run` that outlives the process that started it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import httpx

POLL_SECONDS = 0.05
LOG_CHARACTERS = 2000


class DetachedProcess:
    """Identified by its process id and its start time, because process ids are reused."""

    def __init__(self, pid: int, began: str, url: str = "", log: Path | None = None) -> None:
        self.pid = pid
        self._began = began
        self._url = url
        self._log = log
        self._child: subprocess.Popen[bytes] | None = None

    @classmethod
    def start(
        cls,
        target: str,
        host: str,
        port: int,
        log: Path,
        environment: Mapping[str, str],
        *,
        open_to_all: bool,
    ) -> Self:
        """Starts the process in the current directory, with its output in the log file."""
        command = [sys.executable, "-P", "-m", "portico.cli", "run", target]
        command += ["--host", host, "--port", str(port)]
        command += ["--grpc-port", "0", *(["--insecure-no-auth"] if open_to_all else [])]
        log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with log.open("wb") as out:
            child = subprocess.Popen(  # noqa: S603 - our own interpreter and command
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env={**os.environ, **environment},
                start_new_session=True,
            )
        made = cls(child.pid, _began(child.pid), f"http://{host}:{port}", log)
        made._child = child
        return made

    @classmethod
    def found(cls, config: Mapping[str, Any]) -> Self | None:
        """Finds a process by the values that `about` returned; None when it has ended."""
        if "pid" not in config:
            return None
        there = cls(int(config["pid"]), str(config["began"]))
        return there if there.running else None

    def about(self) -> dict[str, Any]:
        return {"pid": self.pid, "began": self._began, "log": str(self._log)}

    def wait_ready(self, seconds: float) -> None:
        """Waits until the process serves. Raises RuntimeError with the end of its log."""
        until = time.monotonic() + seconds
        while time.monotonic() < until and self.running:
            try:
                if httpx.get(f"{self._url}/readiness", timeout=2, trust_env=False).is_success:
                    return
            except httpx.TransportError:
                pass  # not ready yet
            time.sleep(POLL_SECONDS)
        said = self._log.read_text(errors="replace")[-LOG_CHARACTERS:] if self._log else ""
        raise RuntimeError(f"it does not answer at {self._url}: {said}")

    @property
    def running(self) -> bool:
        if self._child is not None and self._child.poll() is not None:
            return False
        return bool(self._began) and _began(self.pid) == self._began

    def stop(self, seconds: float) -> bool:
        """Stops the process gracefully, and kills it after the timeout. Returns whether it stopped
        gracefully.
        """
        for number in (signal.SIGTERM, signal.SIGKILL):
            if not self.running:
                break
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                break
            until = time.monotonic() + seconds
            while self.running and time.monotonic() < until:
                time.sleep(POLL_SECONDS)
            if not self.running:
                return number is signal.SIGTERM
        return not self.running


def _began(pid: int) -> str:
    """Returns the start time of a process in clock ticks since boot; empty for none or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]


def target_of(app: object) -> str:
    """Returns FILE:name of the module that contains the app. Raises ValueError."""
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        for name, value in list(vars(module).items()):
            if value is app and file:
                return f"{Path(file).resolve()}:{name}"
    raise ValueError("no module has the app at its top level; give entrypoint='FILE:app'")
