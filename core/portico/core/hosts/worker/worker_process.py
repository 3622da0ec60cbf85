"""Worker process: a fresh interpreter in its own session that loads the agent's file."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from portico.agent import AgentApp
from portico.core.hosts.worker.orphan_processes import ENVIRONMENT_MARK, kill_marked, new_mark


class WorkerProcess(Protocol):
    """The process at the other end of a worker's socket."""

    async def wait(self) -> str:
        """Return when the process has ended; the result describes how, such as "was killed by SIGKILL"."""
        ...

    async def kill(self) -> None:
        """Kill the process and all that it started; return when none is left."""
        ...

    def memory_bytes(self) -> int:
        """Resident memory in bytes; 0 if unknown."""
        ...


StartProcess = Callable[[AgentApp, socket.socket], Awaitable[WorkerProcess]]


class InterpreterProcess:
    """A process of `python -m portico.core.hosts.worker`."""

    def __init__(self, process: asyncio.subprocess.Process, mark: str) -> None:
        self._process = process
        self._mark = mark

    async def wait(self) -> str:
        status = await self._process.wait()
        if status >= 0:
            return f"ended with exit status {status}"
        with suppress(ValueError):
            return f"was killed by {signal.Signals(-status).name}"
        return f"was killed by signal {-status}"

    async def kill(self) -> None:
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.kill()
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        await asyncio.to_thread(kill_marked, self._mark)
        await self._process.wait()

    def memory_bytes(self) -> int:
        try:
            pages = Path(f"/proc/{self._process.pid}/statm").read_text(encoding="ascii").split()[1]
        except (OSError, IndexError):
            return 0
        return int(pages) * os.sysconf("SC_PAGE_SIZE")


def process_starter(*options: str) -> StartProcess:
    """Make a launcher of workers with these options. Their output goes to the core's log output."""

    async def launch(app: AgentApp, there: socket.socket) -> InterpreterProcess:
        mark = new_mark()
        command: Sequence[str] = (sys.executable, "-P", "-m", "portico.core.hosts.worker")
        number = there.fileno()
        process = await asyncio.create_subprocess_exec(
            *(*command, str(number), str(os.getpid()), app.source, app.name, *options),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=2,
            stderr=2,
            pass_fds=(number,),
            start_new_session=True,
            env={**os.environ, ENVIRONMENT_MARK: mark},
        )
        return InterpreterProcess(process, mark)

    return launch
