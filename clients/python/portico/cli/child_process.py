"""A child process that is kept up."""

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
START_ATTEMPTS = 8  # of a child that has never been ready
USAGE_ERROR = 2  # the exit status for arguments, variables or a file that no restart mends
FENCED_OUT = 3  # another core has taken over the database: a restart would take it back, again and again
_PR_SET_PDEATHSIG = 1

console = Console(stderr=True, soft_wrap=True)


class ChildProcess:
    """One Python process: started, restarted when it dies, stopped. Owned by its supervisor's loop."""

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        pass_fds: Sequence[int] = (),
        *,
        stop_seconds: float,
        patient: bool = False,
    ) -> None:
        """It is killed when it takes longer than `stop_seconds` to end.

        A patient one that can't start waits for `restart`: its file is being edited.
        """
        self.name = name
        self.ready = asyncio.Event()  # while it serves
        self._command = [sys.executable, *arguments]
        self._pass_fds = tuple(pass_fds)
        self._stop_seconds = stop_seconds
        self._process: asyncio.subprocess.Process | None = None
        self._restarting = False
        self._patient = patient
        self._changed = asyncio.Event()
        self._served_since = 0.0

    async def keep_up(self) -> int:
        """Run until cancelled; returns the exit status when a restart can't mend it."""
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
            # Somebody ended or killed one that served, or it served for a while: no crash over and over.
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
        """One life of the process; `ready` is set while it says that it serves. Returns the exit status."""
        loop = asyncio.get_running_loop()
        reads, writes = os.pipe()
        try:
            process = self._process = await asyncio.create_subprocess_exec(
                *self._command,
                f"--ready-fd={writes}",
                stdin=subprocess.DEVNULL,
                stderr=standard_error.original(),
                pass_fds=(*self._pass_fds, writes),
                start_new_session=True,  # Ctrl-C reaches the supervisor only, which ends things in order
                preexec_fn=partial(_die_with_parent, os.getpid()) if sys.platform == "linux" else None,
            )
            os.close(writes)
            writes = -1
            loop.add_reader(reads, self._hear, reads)
            status = await process.wait()
            # It may have said so with its last breath.
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
        with contextlib.suppress(BlockingIOError):  # something that it started holds the pipe
            if os.read(reads, 1):
                self._served_since = time.monotonic()
                self.ready.set()

    async def restart(self) -> None:
        """End it; `keep_up` starts it again."""
        self._changed.set()
        if self._process is not None and self._process.returncode is None:
            self._restarting = True
            await self._end(self._process)

    async def stop(self) -> None:
        """End it for good; call it when `keep_up` is cancelled."""
        if self._process is not None and self._process.returncode is None:
            await self._end(self._process)

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), self._stop_seconds)
        except TimeoutError:
            console.print(f"{self.name} does not end; killing it", style="yellow")
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
    """A supervisor that is killed takes its children along; they get SIGTERM and drain."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    # It may have ended before. Its id is compared, for the parent of orphans has any: 1, or a subreaper's.
    if os.getppid() != supervisor:
        os._exit(128 + signal.SIGTERM)
