"""Workers in the test's event loop: the complete protocol over a real socket, without a process."""

import asyncio
import socket

from portico.agent import AgentApp
from portico.core.hosts.base.error_disclosure import ErrorAudience, ErrorDisclosure
from portico.core.hosts.local.local_host import THREADS, LocalHost
from portico.core.hosts.worker.worker_process import StartProcess
from portico.core.hosts.worker.worker_runtime import serve


class Beside:
    """Replaces a process."""

    def __init__(self, task: "asyncio.Task[None]") -> None:
        self._task = task

    async def wait(self) -> str:
        await asyncio.wait({self._task})
        return "ended"

    async def kill(self) -> None:
        self._task.cancel()

    def memory_bytes(self) -> int:
        return 0


def beside(threads: int = THREADS, readers: ErrorAudience = "callers") -> StartProcess:
    """Starts workers with this many threads each; the readers get the exceptions of their agents."""
    words = ErrorDisclosure(readers)

    async def launch(app: AgentApp, there: socket.socket) -> Beside:
        return Beside(
            asyncio.create_task(serve(LocalHost([app], words, threads=threads), app, there.dup(), words))
        )

    return launch
