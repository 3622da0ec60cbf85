"""The handle of a sandbox on this machine: its process 1 and its control groups."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress

from portico.sandbox import errors
from portico.sandbox.handle.call import Call
from portico.sandbox.handle.sandbox_handle import SandboxHandle
from portico.sandbox.local.cgroups import SandboxCgroup
from portico.sandbox.spec import Spec


class LocalBox(SandboxHandle):
    """A sandbox handle that pauses, measures and kills processes of this machine."""

    def __init__(
        self, sandbox_id: str, spec: Spec, group: SandboxCgroup, ended: Callable[["LocalBox"], None]
    ) -> None:
        super().__init__(sandbox_id, spec)
        self.group = group
        self._ended = ended
        self._pidfd = -1
        self._killed = False
        self._frozen = False
        self._cleaning: asyncio.Task[None] | None = None
        self._dead: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def adopt(self, pidfd: int) -> None:
        """Sets the descriptor of the sandbox's process 1."""
        self._pidfd = pidfd
        asyncio.get_running_loop().add_reader(pidfd, self._died)
        if self._killed:  # before the process was forked
            self._kill()

    def _freeze(self, frozen: bool) -> Awaitable[None]:
        """Uses the freezer if there is one, else signals, which a process can notice."""
        try:
            if self._killed or self.group.freeze(frozen):
                self._frozen = frozen
                return _done()
        except OSError as error:
            return _done(errors.OperationFailed(f"the control group: {error.strerror}"))
        return self._signalled(self.channel.call("stop" if frozen else "continue"))

    async def _signalled(self, call: Call) -> None:
        await self.wait_reply(call)

    async def usage(self) -> tuple[int | None, float | None]:
        return self.group.memory_bytes(), self.group.cpu_seconds()

    async def memory_kills(self) -> int | None:
        return self.group.memory_kills()

    async def destroy(self, cause: str = "destroyed") -> None:
        if self.gone is None:
            self.gone = errors.SandboxGone(f"sandbox {self.id} was ended: {cause}", cause)
        self.kill()
        await asyncio.shield(self._dead)  # other callers wait for it, too
        self.channel.lost(self.gone)
        if self._cleaning is None:
            self._cleaning = asyncio.ensure_future(self._clean())
        await asyncio.shield(self._cleaning)

    def kill(self) -> None:
        """Kills process 1, and with it everything inside; all are dead when the descriptor becomes
        readable."""
        if self._killed:
            return
        self._killed = True
        if self._pidfd >= 0:
            self._kill()
        elif not self._dead.done():
            self._dead.set_result(None)  # there is no process yet

    def _kill(self) -> None:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        self.group.kill()
        if self._frozen:
            self._frozen = False
            self.group.freeze(False)  # processes in a frozen version 1 group die when it thaws

    def _died(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._pidfd = -1
        if self.gone is None:
            if (self.group.memory_kills() or 0) > self._kills:
                self.gone = errors.SandboxGone(f"sandbox {self.id} was killed: out of memory", "memory")
            else:
                self.gone = errors.SandboxGone(f"sandbox {self.id} has ended by itself", "killed")
        if not self._dead.done():
            self._dead.set_result(None)
        self.channel.lost(self.gone)
        self._ended(self)

    def _on_lost(self) -> None:
        self.kill()

    async def _clean(self) -> None:
        await self.group.remove()


async def _done(error: errors.SandboxError | None = None) -> None:
    if error is not None:
        raise error
