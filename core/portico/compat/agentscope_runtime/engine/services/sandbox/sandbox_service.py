"""Sandboxes by session: each connect of a session returns the same ones."""

import asyncio

from portico.compat.agentscope_runtime.engine.services.base import NotStarted, ServiceWithLifecycleManager
from portico.compat.agentscope_runtime.errors import NotThereYet
from portico.compat.agentscope_runtime.sandbox import BaseSandbox, FilesystemSandbox
from portico.compat.agentscope_runtime.sandbox.enums import SandboxType
from portico.compat.agentscope_runtime.sandbox.sandbox_base import Sandbox

_KINDS: dict[SandboxType, type[Sandbox]] = {
    SandboxType.BASE: BaseSandbox,
    SandboxType.FILESYSTEM: FilesystemSandbox,
}


class SandboxService(ServiceWithLifecycleManager):
    """Owns the sandboxes that it returned: the remaining ones end when it stops."""

    def __init__(
        self, base_url: str | None = None, bearer_token: str | None = None, drain_on_stop: bool = True
    ) -> None:
        """Sandboxes behind a URL outlive the service unless `drain_on_stop` is set."""
        self.base_url = base_url
        self.bearer_token = bearer_token
        self.drain_on_stop = drain_on_stop
        self._up = False
        self._sandboxes: dict[tuple[str, str | None], list[Sandbox]] = {}

    async def start(self) -> None:
        self._up = True

    async def stop(self) -> None:
        self._up = False
        sandboxes, self._sandboxes = self._sandboxes, {}
        if self.drain_on_stop or self.base_url is None:
            for sandbox in (one for those in sandboxes.values() for one in those):
                await asyncio.to_thread(sandbox.close)

    async def health(self) -> bool:
        return self._up

    def connect(
        self,
        session_id: str,
        user_id: str | None = None,
        sandbox_types: list[SandboxType | str] | None = None,
    ) -> list[Sandbox]:
        """Returns started sandboxes, by default one of type `base`. Raises NotThereYet, NotStarted."""
        if not self._up:
            raise NotStarted
        kept = self._sandboxes.setdefault((session_id, user_id), [])
        if not kept:
            kinds = [SandboxType(kind) for kind in sandbox_types or (SandboxType.BASE,)]
            for kind in kinds:
                if kind not in _KINDS:
                    raise NotThereYet(f"a sandbox service's {kind.value!r}", "it has base and filesystem")
            for kind in kinds:
                made = _KINDS[kind](base_url=self.base_url, bearer_token=self.bearer_token)
                kept.append(made.start())
        return list(kept)

    def release(self, session_id: str, user_id: str | None = None) -> bool:
        """Ends a session's sandboxes."""
        for sandbox in self._sandboxes.pop((session_id, user_id), ()):
            sandbox.close()
        return True
