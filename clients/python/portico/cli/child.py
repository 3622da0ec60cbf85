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

from portico.cli.console import Console

STOP_SECONDS = 20.0
STABLE_SECONDS = 5.0  # a child that lived this long is restarted at once
BACKOFF_SECONDS = (0.0, 0.2, 0.5, 1.0, 2.0, 5.0)
USAGE_ERROR = 2  # an exit status that no restart mends
_PR_SET_PDEATHSIG = 1

console = Console(stderr=True)


class Child:
    """One Python process: started, restarted when it dies, stopped. Owned by its supervisor's loop."""

    def __init__(
        self, name: str, arguments: Sequence[str], pass_fds: Sequence[int] = (), *, patient: bool = False
    ) -> None:
        """A patient one that can't start waits for `restart`: its file is being edited."""
        self.name = name
        self._command = [sys.executable, *arguments]
        self._pass_fds = tuple(pass_fds)
        self._process: asyncio.subprocess.Process | None = None
        self._restarting = False
        self._patient = patient
        self._changed = asyncio.Event()

    async def keep_up(self) -> int:
        """Run until cancelled; returns the exit status when a restart can't mend it."""
        failures = 0
        ever_stable = False
        while True:
            started = time.monotonic()
            process = self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=subprocess.DEVNULL,
                pass_fds=self._pass_fds,
                start_new_session=True,  # Ctrl-C reaches the supervisor only, which ends things in order
                preexec_fn=_die_with_parent if sys.platform == "linux" else None,
            )
            status = await process.wait()
            stable = time.monotonic() - started > STABLE_SECONDS
            ever_stable = ever_stable or stable
            if self._restarting:
                self._restarting = False
                failures = 0
                continue
            if status == USAGE_ERROR or (status == 1 and not ever_stable):
                if not self._patient:
                    return status
                console.print(f"{self.name} can't start; waiting for a change", style="yellow")
                self._changed.clear()
                await self._changed.wait()
                continue
            # Somebody ended or killed it, or it lived for a while: no crash at the start, over and over.
            ended = status in (0, -signal.SIGTERM, -signal.SIGKILL)
            failures = 0 if stable or ended else failures + 1
            delay = BACKOFF_SECONDS[min(failures, len(BACKOFF_SECONDS) - 1)]
            how = signal.Signals(-status).name if status < 0 else f"status {status}"
            console.print(f"{self.name} ended ({how}); restarting it in {delay} s", style="yellow")
            await asyncio.sleep(delay)

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
            await asyncio.wait_for(process.wait(), STOP_SECONDS)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def _die_with_parent() -> None:
    """A supervisor that is killed takes its children along; they get SIGTERM and drain."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() == 1:
        os.kill(os.getpid(), signal.SIGTERM)
