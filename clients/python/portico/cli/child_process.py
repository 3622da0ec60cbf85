"""Starts a child process and restarts it when it dies."""

import asyncio
import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial

from portico.cli.console import Console
from portico.telemetry.log import standard_error

STABLE_SECONDS = 5.0  # a child that served for this long is restarted at once
BACKOFF_SECONDS = (0.0, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
START_ATTEMPTS = 8  # for a child that has never been ready
USAGE_ERROR = 2  # exit status for invalid arguments, variables or files, which a restart does not fix
# exit status when another core has taken over the database: a restart would take it back, and so on without
# end
FENCED_OUT = 3
_PR_SET_PDEATHSIG = 1

console = Console(stderr=True, soft_wrap=True)


class ChildProcess:
    """One Python process that is started, restarted when it dies, and stopped.

    The supervisor's event loop owns it.
    """

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        pass_fds: Sequence[int] = (),
        *,
        stop_seconds: float,
        patient: bool = False,
    ) -> None:
        """Prepares a process that is killed if it takes longer than `stop_seconds` to stop.

        A `patient` process that cannot start waits for `restart`, because its file is being edited.
        """
        self.name = name
        self.ready = asyncio.Event()  # set while the process serves
        self._command = [sys.executable, *arguments]
        self._pass_fds = tuple(pass_fds)
        self._stop_seconds = stop_seconds
        self._process: asyncio.subprocess.Process | None = None
        self._restarting = False
        self._patient = patient
        self._changed = asyncio.Event()
        self._served_since = 0.0

    async def keep_up(self) -> int:
        """Keeps the process running until cancelled; returns the exit status if a restart does not help."""
        failures = 0
        ever_ready = False
        while True:
            self._changed.clear()
            status = await self._run()
            ready = self.ready.is_set()
            self.ready.clear()
            ever_ready = ever_ready or ready
            if self._restarting:
                self._restarting = False
                failures = 0
                continue
            if status == FENCED_OUT:
                return status
            if status == USAGE_ERROR and self._patient:
                console.print(f"{self.name} can't start; waiting for a change", style="yellow")
                await self._changed.wait()
                continue
            if status == USAGE_ERROR and not ever_ready:
                return status
            # The process served and was killed, or served for a while: this is no crash loop.
            ended = status in (0, -signal.SIGTERM, -signal.SIGKILL)
            stable = ready and (ended or time.monotonic() - self._served_since > STABLE_SECONDS)
            failures = 0 if stable else failures + 1
            if not ever_ready and failures == START_ATTEMPTS and not self._patient:
                console.print(f"{self.name} failed to start {failures} times; giving up", style="red")
                return 1
            delay = BACKOFF_SECONDS[min(failures, len(BACKOFF_SECONDS) - 1)]
            console.print(f"{self.name} ended ({_how(status)}); restarting it in {delay} s", style="yellow")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), delay)

    async def _run(self) -> int:
        """Runs the process once; `ready` is set while it serves. Returns the exit status."""
        loop = asyncio.get_running_loop()
        reads, writes = os.pipe()
        try:
            process = self._process = await asyncio.create_subprocess_exec(
                *self._command,
                f"--ready-fd={writes}",
                stdin=subprocess.DEVNULL,
                stderr=standard_error.original(),
                pass_fds=(*self._pass_fds, writes),
                # Ctrl-C reaches only the supervisor, which stops its children in order
                start_new_session=True,
                preexec_fn=partial(_die_with_parent, os.getpid()) if sys.platform == "linux" else None,
            )
            os.close(writes)
            writes = -1
            loop.add_reader(reads, self._hear, reads)
            status = await process.wait()
            # The process may have reported readiness just before it ended.
            if not self.ready.is_set():
                self._hear(reads)
            return status
        finally:
            loop.remove_reader(reads)
            os.close(reads)
            if writes != -1:
                os.close(writes)

    def _hear(self, reads: int) -> None:
        asyncio.get_running_loop().remove_reader(reads)
        os.set_blocking(reads, False)
        with contextlib.suppress(BlockingIOError):  # one of its own child processes holds the pipe open
            if os.read(reads, 1):
                self._served_since = time.monotonic()
                self.ready.set()

    async def restart(self) -> None:
        """Stops the process; `keep_up` starts it again."""
        self._changed.set()
        if self._process is not None and self._process.returncode is None:
            self._restarting = True
            await self._end(self._process)

    async def stop(self) -> None:
        """Stops the process permanently; call it when `keep_up` is cancelled."""
        if self._process is not None and self._process.returncode is None:
            await self._end(self._process)

    def kill(self) -> None:
        """Kills the process."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), self._stop_seconds)
        except TimeoutError:
            console.print(f"{self.name} does not stop; killing it", style="yellow")
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def _how(status: int) -> str:
    if status >= 0:
        return f"status {status}"
    with contextlib.suppress(ValueError):
        return signal.Signals(-status).name
    return f"signal {-status}"  # a real-time signal has no name


def _die_with_parent(supervisor: int) -> None:
    """Makes the kernel send SIGTERM to this child when its supervisor dies, so that the child drains."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    # The supervisor may have died before this call. The parent's id is compared with the supervisor's,
    # because an orphan has a parent too: process 1 or a subreaper.
    if os.getppid() != supervisor:
        os._exit(128 + signal.SIGTERM)
