"""Sandbox service of the core: the sandbox library's manager under the operator's policy.

It raises the core's errors. The manager is started with the first request for a sandbox.
"""

import asyncio
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from portico.core.sandboxes.allowed_mounts import AllowedMounts
from portico.core.sandboxes.port_tokens import PortTokens
from portico.core.sandboxes.sandbox_errors import translate_sandbox_errors
from portico.core.sandboxes.sandbox_policy import NO_BACKEND, SandboxPolicy
from portico.sandbox import errors
from portico.sandbox.backend import Backend
from portico.sandbox.backend_registry import check_private, make_backend, missing_packages
from portico.sandbox.local import cgroups, process_owner
from portico.sandbox.manager import snapshots
from portico.sandbox.manager.registry import ManagedSandbox, any_user
from portico.sandbox.manager.sandbox_manager import SandboxManager
from portico.sandbox.manager.snapshots import StoredSnapshot
from portico.sandbox.spec import Spec

log = logging.getLogger(__name__)


class CoreSandboxes:
    """The sandboxes of one core, on its event loop. Methods raise the core's errors."""

    def __init__(self, policy: SandboxPolicy | None = None) -> None:
        self.policy = policy or SandboxPolicy()
        self.ports = PortTokens()
        self._manager: SandboxManager | None = None
        self._opening = asyncio.Lock()
        self._closed = False
        self._mounts = AllowedMounts(())

    @property
    def count(self) -> int:
        """Number of sandboxes."""
        return 0 if self._manager is None else self._manager.count

    @property
    def templates(self) -> int:
        """Number of templates from which sandboxes are forked."""
        return 0 if self._manager is None else self._manager.templates

    async def start(self) -> None:
        """Remove what a killed core left behind, and open the directories that callers may mount.

        Raises:
            ValueError: A directory is missing, or sandboxes could read private files of the core.
        """
        policy = self.policy
        if policy.backend == NO_BACKEND:
            return
        await asyncio.to_thread(_sweep)
        private = dict(policy.private)
        with suppress(FileNotFoundError):  # the working directory may have been removed
            private["the working directory"] = os.getcwd()
        try:
            for name in (policy.backend, *policy.more_backends):
                check_private(name, private)
        except errors.BackendUnavailable as error:
            other = "or choose another backend (--sandbox-backend docker, or none)"
            raise ValueError(f"sandboxes: {error.message}, {other}") from None
        if reason := missing_packages(policy.backend):
            log.warning("sandboxes cannot import the packages of this Python: %s", reason)
        self._mounts = await asyncio.to_thread(AllowedMounts, policy.mounts, policy.private)

    async def close(self) -> None:
        """End all sandboxes."""
        self._closed = True
        async with self._opening:
            manager, self._manager = self._manager, None
            if manager is not None:
                await manager.close()

    async def get_or_create_own(
        self, user_id: str, session_id: str, spec: Spec, backend: str = ""
    ) -> ManagedSandbox:
        """The session's own sandbox of a type, created if needed; concurrent calls get the same one."""
        with translate_sandbox_errors():
            manager = await self._open()
            return await manager.own(spec, user_id=user_id, session_id=session_id, backend=backend)

    async def get_or_create_keyed(
        self, key: tuple[str, str], user_id: str, session_id: str, spec: Spec, backend: str, *, fresh: bool
    ) -> ManagedSandbox:
        """The sandbox created for an owner's key, while it exists; else a new one."""
        with translate_sandbox_errors():
            manager = await self._open()
            return await manager.keyed(
                key, spec, fresh=fresh, user_id=user_id, session_id=session_id, backend=backend
            )

    async def create(self, user_id: str, session_id: str, spec: Spec, backend: str = "") -> ManagedSandbox:
        """Create a sandbox."""
        with translate_sandbox_errors():
            manager = await self._open()
            return await manager.create(spec, user_id=user_id, session_id=session_id, backend=backend)

    def get(self, sandbox_id: str, visible: Callable[[str], bool] = any_user) -> ManagedSandbox:
        """The sandbox, if its user is visible. Raises SandboxNotFound, SandboxGone."""
        with translate_sandbox_errors(sandbox_id=sandbox_id):
            if self._manager is None:
                raise errors.SandboxNotFound(f"no sandbox {sandbox_id!r}")
            return self._manager.get(sandbox_id, visible)

    def touch(self, held: ManagedSandbox) -> None:
        """Restart the sandbox's idle time."""
        self._existing().touch(held)

    def listed(self, user_id: str = "", session_id: str = "") -> list[ManagedSandbox]:
        """The sandboxes of a user or a session, newest first."""
        return [] if self._manager is None else self._manager.listed(user_id or None, session_id or None)

    def tier(self, held: ManagedSandbox) -> str:
        """The sandbox's isolation tier."""
        return self._existing().tier(held)

    async def delete(self, sandbox_id: str) -> None:
        """End a sandbox. Raises SandboxNotFound, SandboxGone."""
        held = self.get(sandbox_id)
        with translate_sandbox_errors(sandbox_id=sandbox_id):
            await self._existing().delete(held.handle.id)

    async def release(self, user_id: str, session_id: str) -> None:
        """End the sandboxes of a session that was deleted."""
        if self._manager is not None:
            with translate_sandbox_errors():
                await self._manager.release(user_id, session_id)

    async def delete_user(self, user_id: str) -> tuple[int, int]:
        """End and delete all of a user's. Returns the numbers of sandboxes and snapshots."""
        if self._manager is None:
            return 0, 0
        with translate_sandbox_errors():
            return await self._manager.forget(user_id)

    async def take_snapshot(self, held: ManagedSandbox) -> StoredSnapshot:
        """Take a snapshot of the sandbox's files, and of its kernel if possible. Raises LimitExceeded."""
        with translate_sandbox_errors(sandbox_id=held.handle.id):
            return await self._existing().take_snapshot(held)

    async def roll_back(self, held: ManagedSandbox, snapshot_id: str) -> bool:
        """Reset a sandbox to a snapshot. Returns whether its kernel was restored too. Raises
        SnapshotNotFound.
        """
        with translate_sandbox_errors(sandbox_id=held.handle.id, name=snapshot_id):
            return await self._existing().roll_back(held, snapshot_id)

    def snapshots(
        self, user_id: str = "", session_id: str = "", sandbox_id: str = ""
    ) -> list[StoredSnapshot]:
        """The snapshots of a user, a session or a sandbox, newest first."""
        if self._manager is None:
            return []
        return self._manager.snapshots.listed(user_id or None, session_id or None, sandbox_id or None)

    def snapshot(self, snapshot_id: str, visible: Callable[[str], bool] = any_user) -> StoredSnapshot:
        """The snapshot, if its user is visible. Raises SnapshotNotFound."""
        with translate_sandbox_errors(name=snapshot_id):
            if self._manager is None:
                raise errors.SnapshotNotFound(f"no snapshot {snapshot_id!r}")
            return self._manager.snapshots.get(snapshot_id, visible)

    def delete_snapshot(self, snapshot_id: str) -> None:
        """Delete a snapshot. Raises SnapshotNotFound."""
        self.snapshot(snapshot_id)
        self._existing().snapshots.delete(snapshot_id)

    async def fork(
        self, snapshot_id: str, session_id: str, spec: Spec | None, backend: str
    ) -> ManagedSandbox:
        """Create a sandbox from a snapshot. Raises SnapshotNotFound."""
        self.snapshot(snapshot_id)
        with translate_sandbox_errors(name=snapshot_id):
            return await self._existing().fork(snapshot_id, session_id, spec, backend)

    async def fork_live(
        self, source: ManagedSandbox, session_id: str, spec: Spec | None, backend: str
    ) -> ManagedSandbox:
        """Create a sandbox with the present files of another."""
        with translate_sandbox_errors(sandbox_id=source.handle.id):
            return await self._existing().fork_live(source, session_id, spec, backend)

    def _existing(self) -> SandboxManager:
        """The manager; it exists if a sandbox or snapshot was found, until the core stops."""
        with translate_sandbox_errors():
            if self._manager is None:
                raise errors.BackendUnavailable("the core is stopping")
            return self._manager

    async def _allowed(self, spec: Spec) -> Spec:
        """Apply the policy to a spec and open its mounts. Raises InvalidArgument if the policy forbids it."""
        spec = self.policy.check_spec(spec)
        if spec.mounts:
            spec = replace(spec, mounts=await asyncio.to_thread(self._mounts.open_mounts, spec.mounts))
        return spec

    async def _open(self) -> SandboxManager:
        async with self._opening:
            if self._manager is None:
                if self._closed:
                    raise errors.BackendUnavailable("the core is stopping")
                manager = SandboxManager(
                    _backends(self.policy),
                    default=self.policy.backend,
                    quotas=self.policy.quotas(),
                    allowed=self._allowed,
                )
                await manager.open()
                self._manager = manager
            return self._manager


def _backends(policy: SandboxPolicy) -> dict[str, Backend]:
    if policy.backend == NO_BACKEND:
        raise errors.BackendUnavailable("sandboxes are turned off")
    names = dict.fromkeys((policy.backend, *policy.more_backends))
    # Only the default backend has a warm pool.
    return {
        name: make_backend(name, policy.pool_size if name == policy.backend else 0, policy.preload_bytes)
        for name in names
    }


def _sweep() -> None:
    process_owner.kill_orphans()
    cgroups.sweep()
    snapshots.sweep()
