"""The handle of a sandbox that is a container, on this machine's engine or a remote one."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from portico.sandbox import errors
from portico.sandbox.docker.attachment import Attachment
from portico.sandbox.docker.engine import Engine
from portico.sandbox.handle.replies import Reply
from portico.sandbox.handle.sandbox_handle import SandboxHandle
from portico.sandbox.spec import Spec

log = logging.getLogger(__name__)


class DockerBox(SandboxHandle):
    """A sandbox handle that starts, pauses, measures and removes a container."""

    def __init__(
        self, sandbox_id: str, spec: Spec, engine: Engine, ended: Callable[["DockerBox"], None]
    ) -> None:
        super().__init__(sandbox_id, spec)
        self._engine = engine
        self._ended = ended
        self._container = ""
        self.binds: list[str] = []  # bind mounts made for its mounts
        self._missing: frozenset[str] = frozenset()
        self._removal: asyncio.Task[None] | None = None

    async def boot(self, config: dict[str, Any]) -> None:
        """Creates and starts the container. On BackendUnavailable, the caller destroys it."""
        name = f"portico-{self.id}"
        made = await self._engine.call("create_container_from_config", config, name)
        self._container = made["Id"]
        stream = await self._engine.attach(self._container)
        try:
            stream.setblocking(False)
            loop = asyncio.get_running_loop()
            # The socket may be of any family: asyncio only requires a stream.
            await loop.create_connection(lambda: Attachment(self.channel, self._lost), sock=stream)
        except BaseException:
            stream.close()
            raise
        await self._engine.call("start", self._container)

    def lacking(self, missing: frozenset[str]) -> None:
        """Sets what the runtime does not support, such as pause or checkpoints; `require` then refuses it."""
        self._missing = missing

    def _confirm(self, answer: Reply) -> None:
        if not self.binds:
            super()._confirm(answer)

    def require(self, ability: str) -> None:
        if ability in self._missing:
            raise errors.Unsupported(f"{ability}: not supported by this container's runtime")

    async def _freeze(self, frozen: bool) -> None:
        self.require("pause")
        await self._engine.call("pause" if frozen else "unpause", self._container)

    async def usage(self) -> tuple[int | None, float | None]:
        told = await self._engine.call("stats", self._container, stream=False, one_shot=True)
        memory = told.get("memory_stats", {}).get("usage")
        cpu = told.get("cpu_stats", {}).get("cpu_usage", {}).get("total_usage")
        return memory, cpu / 1e9 if cpu is not None else None

    async def memory_kills(self) -> int | None:
        """Returns the count that the supervisor reports: the engine notices kills later."""
        answer = await self.request("memory_kills")
        return answer.number("count") if answer.has("count") else None

    async def destroy(self, cause: str = "destroyed") -> None:
        if self.gone is None:
            self.gone = errors.SandboxGone(f"sandbox {self.id} was ended: {cause}", cause)
        if self._removal is None:
            self._removal = asyncio.ensure_future(self._remove())
        await asyncio.shield(self._removal)

    def _lost(self) -> None:
        """Called when the stream has ended: process 1 has ended, or the engine is gone."""
        if self._removal is None:
            self._removal = asyncio.ensure_future(self._remove())

    def _on_lost(self) -> None:
        self._lost()

    async def _remove(self) -> None:
        try:
            if self.gone is None:
                self.gone = await self._why()
            self.channel.lost(self.gone)
            if self._container:
                await self._engine.remove(self._container)
        finally:
            self._ended(self)

    async def _why(self) -> errors.SandboxGone:
        try:
            state = (await self._engine.call("inspect_container", self._container))["State"]
        except errors.BackendUnavailable as error:
            # The engine's message may name the machine's paths, and callers read why a sandbox is gone.
            log.warning("sandbox %s is gone: %s", self.id, error)
            return errors.SandboxGone(f"sandbox {self.id} is gone: the engine no longer has it", "killed")
        if state.get("OOMKilled"):
            return errors.SandboxGone(f"sandbox {self.id} was killed: out of memory", "memory")
        return errors.SandboxGone(f"sandbox {self.id} has ended by itself", "killed")
