"""The core's sandboxes: who has which, and until when. Nothing is started before the first is asked for."""

import asyncio
import logging
import shutil
import tempfile
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from portico.core.engine.port_access import PortAccess
from portico.core.engine.sandbox_errors import SandboxGone, SandboxNotFound, domain_error, told
from portico.core.engine.sandbox_policy import SandboxPolicy
from portico.core.errors import LimitExceeded
from portico.core.identity import tenant_of
from portico.sandbox import errors
from portico.sandbox.backend import Backend
from portico.sandbox.box import Box
from portico.sandbox.choice import make_backend
from portico.sandbox.local import cgroups, owners
from portico.sandbox.manager import Held, SandboxManager
from portico.sandbox.snapshots import Snapshot, Snapshots
from portico.sandbox.spec import Spec

log = logging.getLogger(__name__)

REMEMBERED = 10_000  # ended sandboxes of which is known whose they were
_FOLDER = "portico-core-"


def _to_all(user_id: str) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Kept:
    """A snapshot, and what a fork of it needs to know."""

    snapshot: Snapshot
    user_id: str
    session_id: str
    spec: Spec
    backend: str


class Sandboxes:
    """Sandboxes of one core, all on its event loop. Methods raise the core's errors."""

    def __init__(self, policy: SandboxPolicy | None = None) -> None:
        self.policy = policy or SandboxPolicy()
        self.ports = PortAccess()
        self._manager: SandboxManager | None = None
        self._backends: dict[str, Backend] = {}
        self._opening = asyncio.Lock()
        self._closed = False
        self._making: dict[tuple[str, ...], asyncio.Task[Held]] = {}
        self._user_of: OrderedDict[str, str] = OrderedDict()
        self._boxes: WeakValueDictionary[str, Box] = WeakValueDictionary()
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._snapshots: Snapshots | None = None
        self._kept: dict[str, Kept] = {}
        self._taking = 0

    @property
    def count(self) -> int:
        """How many there are."""
        manager = self._manager
        return 0 if manager is None else manager.count

    async def start(self) -> None:
        """End what a core that was killed has left behind."""
        if self.policy.backend != "none":
            await asyncio.to_thread(_sweep)

    async def close(self) -> None:
        """End every sandbox."""
        self._closed = True
        async with self._opening:
            manager, self._manager = self._manager, None
            if manager is not None:
                await manager.close()
            if self._snapshots is not None:
                self._snapshots.close()
            if self._folder is not None:
                self._folder.cleanup()

    async def own(self, user_id: str, session_id: str, spec: Spec, backend: str = "") -> Held:
        """The session's own sandbox of that type, made if need be; many at once get the same."""
        key = ("own", user_id, session_id, spec.type, backend or self.policy.backend)
        return await self._once(key, lambda: self.create(user_id, session_id, spec, backend))

    async def keyed(
        self, key: tuple[str, str], user_id: str, session_id: str, spec: Spec, backend: str, *, fresh: bool
    ) -> Held:
        """The sandbox that was made for an owner's key, while it lives."""

        async def make() -> Held:
            if fresh:
                return await self.create(user_id, session_id, spec, backend)
            return await self.own(user_id, session_id, spec, backend)

        return await self._once(("key", *key), make)

    async def _once(self, key: tuple[str, ...], make: Callable[[], Coroutine[Any, Any, Held]]) -> Held:
        task = self._making.get(key)
        if task is not None and task.done() and _useless(task):
            task = None
        if task is None:
            for other in [other for other, made in self._making.items() if made.done() and _useless(made)]:
                del self._making[other]
            task = self._making[key] = asyncio.create_task(make())
            task.add_done_callback(lambda done: done.cancelled() or done.exception())  # told to who waits
        held = await asyncio.shield(task)
        self.touch(held)
        return held

    async def create(self, user_id: str, session_id: str, spec: Spec, backend: str = "") -> Held:
        """One more sandbox."""
        spec = self.policy.allowed(spec)
        manager = await self._open()
        if len(manager.list_held(user_id)) >= self.policy.per_user:
            raise LimitExceeded("sandboxes", f"the user has {self.policy.per_user} sandboxes already")
        if self.policy.per_tenant is not None:
            tenant = tenant_of(user_id)
            count = sum(tenant_of(one.user_id) == tenant for one in manager.list_held())
            if count >= self.policy.per_tenant:
                raise LimitExceeded("tenant_sandboxes", f"the tenant has {count} sandboxes already")
        with told():
            held = await manager.create(spec, user_id=user_id, session_id=session_id, backend=backend)
        self._user_of[held.box.id] = user_id
        self._boxes[held.box.id] = held.box
        while len(self._user_of) > REMEMBERED:
            self._user_of.popitem(last=False)
        return held

    def get(self, sandbox_id: str, visible: Callable[[str], bool] = _to_all) -> Held:
        """One whose user is visible. Raises SandboxNotFound, SandboxGone."""
        with told(sandbox_id=sandbox_id):
            user_id = self._user_of.get(sandbox_id)
            if self._manager is None or user_id is None or not visible(user_id):
                raise errors.SandboxNotFound(f"no sandbox {sandbox_id!r}")
            try:
                return self._manager.get(sandbox_id, user_id)
            except errors.SandboxNotFound:
                # It is being ended, and says why; or that was long ago.
                box = self._boxes.get(sandbox_id)
                told_before = errors.SandboxGone(f"sandbox {sandbox_id} was ended", "destroyed")
                raise (box and box.gone) or told_before from None

    def touch(self, held: Held) -> None:
        """Its idle time begins anew."""
        held.box.last_used = time.monotonic()

    def listed(self, user_id: str = "", session_id: str = "") -> list[Held]:
        """Newest first."""
        held = [] if self._manager is None else self._manager.list_held(user_id or None)
        mine = [one for one in held if session_id in ("", one.session_id)]
        return sorted(mine, key=lambda one: (one.created, one.box.id), reverse=True)

    def tier(self, held: Held) -> str:
        """How strongly it is isolated."""
        return self._backends[held.backend].capabilities.tier

    async def delete(self, sandbox_id: str) -> None:
        """Raises SandboxNotFound, SandboxGone."""
        held = self.get(sandbox_id)
        assert self._manager is not None
        with told(sandbox_id=sandbox_id):
            await self._manager.delete(sandbox_id, held.user_id)

    async def release(self, user_id: str, session_id: str) -> None:
        """End all that belongs to a session that has ended."""
        if self._manager is None:
            return
        pending = [
            task
            for key, task in self._making.items()
            if key[:3] == ("own", user_id, session_id) and not task.done()
        ]
        await asyncio.gather(*pending, return_exceptions=True)
        await self._manager.release(user_id, session_id)
        for name, kept in list(self._kept.items()):
            if (kept.user_id, kept.session_id) == (user_id, session_id):
                self._drop(name)

    async def forget(self, user_id: str) -> tuple[int, int]:
        """End and forget all that a user has; how many sandboxes and how many snapshots that was."""
        making = [task for key, task in self._making.items() if key[1] == user_id]
        await asyncio.gather(*making, return_exceptions=True)
        held = self.listed(user_id)
        for one in held:
            with suppress(SandboxNotFound, SandboxGone):  # it has ended by itself
                await self.delete(one.box.id)
        snapshots = [name for name, kept in self._kept.items() if kept.user_id == user_id]
        for name in snapshots:
            self._drop(name)
        for sandbox_id in [name for name, user in self._user_of.items() if user == user_id]:
            del self._user_of[sandbox_id]
        return len(held), len(snapshots)

    async def take(self, held: Held) -> Snapshot:
        """Keep its files, and its kernel if it can be. Raises LimitExceeded."""
        if len(self._kept) + self._taking >= self.policy.snapshots:
            raise LimitExceeded("snapshots", f"there are {self.policy.snapshots} snapshots already")
        self._taking += 1
        try:
            with told(sandbox_id=held.box.id):
                snapshot = await self._store().take(held.box)
        finally:
            self._taking -= 1
        self._kept[snapshot.id] = Kept(snapshot, held.user_id, held.session_id, held.box.spec, held.backend)
        return snapshot

    async def roll_back(self, held: Held, snapshot_id: str) -> bool:
        """Whether the kernel came back too. Raises SnapshotNotFound."""
        with told(sandbox_id=held.box.id, name=snapshot_id):
            kept = self.snapshot(snapshot_id)
            if kept.user_id != held.user_id:
                raise errors.SnapshotNotFound(f"no snapshot {snapshot_id!r}")
            return await self._store().rollback(held.box, snapshot_id)

    def snapshot(self, snapshot_id: str, visible: Callable[[str], bool] = _to_all) -> Kept:
        """One whose user is visible. Raises SnapshotNotFound."""
        kept = self._kept.get(snapshot_id)
        if kept is None or not visible(kept.user_id):
            missing = errors.SnapshotNotFound(f"no snapshot {snapshot_id!r}")
            raise domain_error(missing, name=snapshot_id)
        return kept

    def delete_snapshot(self, snapshot_id: str) -> None:
        """Raises SnapshotNotFound."""
        self.snapshot(snapshot_id)
        with told(name=snapshot_id):
            self._drop(snapshot_id)

    async def fork(self, snapshot_id: str, session_id: str, spec: Spec | None, backend: str) -> Held:
        """A new sandbox with a snapshot's files. Raises SnapshotNotFound."""
        kept = self.snapshot(snapshot_id)
        held = await self.create(
            kept.user_id, session_id, kept.spec if spec is None else spec, backend or kept.backend
        )
        try:
            with told(name=snapshot_id):
                await self._store().rollback(held.box, snapshot_id)
        except BaseException:
            await self.delete(held.box.id)
            raise
        return held

    async def fork_live(self, source: Held, session_id: str, spec: Spec | None, backend: str) -> Held:
        """A new sandbox with another's files as they are now."""
        snapshot = await self.take(source)
        try:
            return await self.fork(snapshot.id, session_id, spec, backend)
        finally:
            self._drop(snapshot.id)

    def _drop(self, snapshot_id: str) -> None:
        del self._kept[snapshot_id]
        self._store().delete(snapshot_id)

    def _store(self) -> Snapshots:
        if self._snapshots is None:
            # It bears its owner's name: who finds it after a crash knows that nobody needs it.
            owner = owners.Owner.current().name
            self._folder = tempfile.TemporaryDirectory(prefix=f"{_FOLDER}{owner}-")
            self._snapshots = Snapshots(Path(self._folder.name))
        return self._snapshots

    async def _open(self) -> SandboxManager:
        async with self._opening:
            if self._manager is None:
                with told():
                    if self._closed:
                        raise errors.BackendUnavailable("the core stops")
                    self._backends = _backends(self.policy)
                    manager = SandboxManager(
                        self._backends,
                        default=self.policy.backend,
                        max_sandboxes=self.policy.max_sandboxes,
                    )
                    await manager.open()
                self._manager = manager
            return self._manager


def _useless(task: asyncio.Task[Held]) -> bool:
    return task.cancelled() or task.exception() is not None or task.result().box.gone is not None


def _backends(policy: SandboxPolicy) -> dict[str, Backend]:
    if policy.backend == "none":
        raise errors.BackendUnavailable("sandboxes are turned off")
    names = dict.fromkeys((policy.backend, *policy.more_backends))
    # Only the default one has sandboxes waiting.
    return {name: make_backend(name, policy.pool_size if name == policy.backend else 0) for name in names}


def _sweep() -> None:
    owners.kill_orphans()
    cgroups.sweep()
    for folder in Path(tempfile.gettempdir()).glob(f"{_FOLDER}*"):
        owner = owners.Owner.parse(folder.name.removeprefix(_FOLDER).rpartition("-")[0])
        if owner is not None and not owner.alive():
            shutil.rmtree(folder, ignore_errors=True)
