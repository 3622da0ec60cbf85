"""The sandbox manager: creates sandboxes and snapshots, finds them by user, session and key, and ends
them."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from portico.sandbox import errors
from portico.sandbox.backend import Backend
from portico.sandbox.manager.expiry import ExpiryTimer
from portico.sandbox.manager.quotas import SandboxQuotas
from portico.sandbox.manager.registry import ManagedSandbox, SandboxRegistry, any_user
from portico.sandbox.manager.snapshots import SnapshotStore, StoredSnapshot
from portico.sandbox.spec import SECONDS, Spec, check_number

Key = tuple[str, ...]


class SandboxManager:
    """Sandboxes by id, by (user_id, session_id) and by the key that they were made for; and their snapshots.

    All methods run on one event loop. A `visible` argument decides by user id whether the caller may see that
    user's sandboxes; others are reported as not found.
    """

    def __init__(
        self,
        backends: Mapping[str, Backend],
        *,
        default: str = "local",
        quotas: SandboxQuotas | None = None,
        allowed: Callable[[Spec], Awaitable[Spec]] | None = None,
    ) -> None:
        """Creates a manager that is not yet open.

        Args:
            backends: Backends by name.
            default: The name of the backend that is used when a request names none.
            quotas: None for no limits.
            allowed: Maps a requested spec to the spec that the sandbox gets, or raises to refuse it.
        """
        self._backends = dict(backends)
        self._default = default
        self._allowed = allowed
        quotas = quotas or SandboxQuotas()
        self._registry = SandboxRegistry(quotas)
        self.snapshots = SnapshotStore(quotas=quotas)
        self._once: dict[Key, asyncio.Task[ManagedSandbox]] = {}
        self._making: dict[asyncio.Future[Any], tuple[str, str]] = {}  # to (user_id, session_id)
        self._reaper = ExpiryTimer(self._registry, self._end)

    async def __aenter__(self) -> "SandboxManager":
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def open(self) -> None:
        """Opens the backends. Raises BackendUnavailable; then it has closed the others again."""
        opened: list[Backend] = []
        try:
            for backend in self._backends.values():
                await backend.open()
                opened.append(backend)
        except BaseException:
            for backend in opened:
                await backend.close()
            raise
        self._reaper.start()

    async def create(
        self, spec: Spec, *, user_id: str = "", session_id: str = "", backend: str = ""
    ) -> ManagedSandbox:
        """Creates a sandbox. Raises LimitExceeded, Unsupported for an unknown backend, and the errors of
        `allowed` and of the backend."""
        made = asyncio.get_running_loop().create_future()
        self._making[made] = user_id, session_id
        try:
            held = await self._create(spec, user_id, session_id, backend or self._default)
        finally:
            del self._making[made]
            made.set_result(None)
        self._reaper.notice(held)
        return held

    async def _create(self, spec: Spec, user_id: str, session_id: str, backend: str) -> ManagedSandbox:
        if self._allowed is not None:
            spec = await self._allowed(spec)
        chosen = self._backends.get(backend)
        if chosen is None:
            raise errors.Unsupported(
                f"unknown backend {backend!r}; expected one of {', '.join(self._backends)}"
            )
        if spec.idle_action == "pause" and "pause" in chosen.capabilities.missing:
            raise errors.Unsupported(f"idle_action: {chosen.name} sandboxes cannot be paused")
        self._registry.reserve(user_id)
        try:
            box = await chosen.create(spec, user_id=user_id)
        except BaseException:
            self._registry.cancel(user_id)
            raise
        held = ManagedSandbox(box, chosen.name, user_id, session_id, time.time())
        self._registry.add(held)
        return held

    async def own(
        self, spec: Spec, *, user_id: str = "", session_id: str = "", backend: str = ""
    ) -> ManagedSandbox:
        """Returns the session's own sandbox of the spec's type; creates it if needed. Concurrent calls get
        the same one. Raises as `create`."""
        key = ("own", user_id, session_id, spec.type, backend or self._default)
        return await self._made_once(
            key, lambda: self.create(spec, user_id=user_id, session_id=session_id, backend=backend)
        )

    async def keyed(
        self,
        key: tuple[str, str],
        spec: Spec,
        *,
        fresh: bool = False,
        user_id: str = "",
        session_id: str = "",
        backend: str = "",
    ) -> ManagedSandbox:
        """Returns the live sandbox that was made for a key; otherwise the session's own sandbox, or with
        `fresh` a new one. Raises as `create`.

        Args:
            key: An owner and a key of that owner.
        """
        make = self.create if fresh else self.own
        return await self._made_once(
            ("key", *key), lambda: make(spec, user_id=user_id, session_id=session_id, backend=backend)
        )

    async def _made_once(
        self, key: Key, make: Callable[[], Coroutine[Any, Any, ManagedSandbox]]
    ) -> ManagedSandbox:
        task = self._once.get(key)
        if task is None or _useless(task):
            for other in [other for other, made in self._once.items() if _useless(made)]:
                del self._once[other]
            task = self._once[key] = asyncio.create_task(make())
            task.add_done_callback(lambda done: done.cancelled() or done.exception())  # callers get it
        held = await asyncio.shield(task)
        self.touch(held)
        return held

    def get(self, sandbox_id: str, visible: Callable[[str], bool] = any_user) -> ManagedSandbox:
        """Returns a sandbox. Raises SandboxNotFound, and SandboxGone with the cause for one that has
        ended."""
        return self._registry.get(sandbox_id, visible)

    @property
    def count(self) -> int:
        """Number of live sandboxes."""
        return self._registry.count

    @property
    def templates(self) -> int:
        """Number of templates of all backends."""
        return sum(backend.templates for backend in self._backends.values())

    def listed(self, user_id: str | None = None, session_id: str | None = None) -> list[ManagedSandbox]:
        """Returns sandboxes, newest first, of one user and session; None means all."""
        return self._registry.listed(user_id, session_id)

    def tier(self, held: ManagedSandbox) -> str:
        """Returns the isolation level of a sandbox, as its backend reports it."""
        return self._backends[held.backend].capabilities.tier

    def touch(self, held: ManagedSandbox) -> None:
        """Restarts the idle time of a sandbox."""
        held.handle.last_used = time.monotonic()

    def set_ttl(self, held: ManagedSandbox, seconds: float | None) -> None:
        """Sets the remaining time to live in seconds from now; None for no limit. Raises InvalidRequest."""
        if seconds is not None:
            check_number("seconds", seconds, *SECONDS)
        lifetime = None if seconds is None else time.monotonic() - held.handle.begun + seconds
        held.handle.spec = replace(held.handle.spec, ttl_seconds=lifetime)
        self._reaper.notice(held)

    async def delete(self, sandbox_id: str, visible: Callable[[str], bool] = any_user) -> None:
        """Ends a sandbox and removes its files; its snapshots stay. Raises SandboxNotFound, SandboxGone."""
        await self._end(self.get(sandbox_id, visible), "destroyed")

    async def release(self, user_id: str, session_id: str) -> None:
        """Ends the sandboxes of a session that has ended, and deletes its snapshots."""
        await self._settled(
            lambda user, session: (user, session) == (user_id, session_id),
            lambda key: key[:3] == ("own", user_id, session_id),
        )
        await asyncio.gather(*(self._end(held, "destroyed") for held in self.listed(user_id, session_id)))
        for snapshot in self.snapshots.listed(user_id, session_id):
            self.snapshots.delete(snapshot.id)

    async def forget(self, user_id: str) -> tuple[int, int]:
        """Ends all sandboxes of a user and deletes the user's snapshots. Returns the number of both."""
        await self._settled(lambda user, _session: user == user_id, lambda key: key[1] == user_id)
        held = self.listed(user_id)
        for one in held:
            with suppress(errors.SandboxNotFound, errors.SandboxGone):  # it has ended meanwhile
                await self.delete(one.handle.id)
        taken = self.snapshots.listed(user_id)
        for snapshot in taken:
            self.snapshots.delete(snapshot.id)
        self._registry.forget(user_id)
        for key in [key for key, task in self._once.items() if key[1] == user_id and _useless(task)]:
            del self._once[key]
        return len(held), len(taken)

    async def _settled(self, making: Callable[[str, str], bool], keyed: Callable[[Key], bool]) -> None:
        """Waits for matching sandboxes that are being created."""
        pending: list[asyncio.Future[Any]] = [future for future, of in self._making.items() if making(*of)]
        pending += [task for key, task in self._once.items() if keyed(key) and not task.done()]
        await asyncio.gather(*pending, return_exceptions=True)

    async def take_snapshot(self, held: ManagedSandbox, kernel: bool = True) -> StoredSnapshot:
        """Saves a sandbox's files, and its kernel if possible. Raises LimitExceeded, SandboxGone."""
        owner = {"user_id": held.user_id, "session_id": held.session_id, "backend": held.backend}
        return await self.snapshots.take(held.handle, kernel, **owner)

    async def roll_back(self, held: ManagedSandbox, snapshot_id: str) -> bool:
        """Restores a sandbox from a snapshot of the same user. Returns whether the kernel was restored too.
        Raises SnapshotNotFound."""
        self.snapshots.get(snapshot_id, lambda user_id: user_id == held.user_id)
        return await self.snapshots.rollback(held.handle, snapshot_id)

    async def fork(
        self, snapshot_id: str, session_id: str, spec: Spec | None = None, backend: str = ""
    ) -> ManagedSandbox:
        """Creates a sandbox of the snapshot's user from a snapshot's files. Raises SnapshotNotFound, and as
        `create`."""
        taken = self.snapshots.get(snapshot_id)
        held = await self.create(
            spec or taken.spec,
            user_id=taken.user_id,
            session_id=session_id,
            backend=backend or taken.backend,
        )
        try:
            await self.snapshots.rollback(held.handle, snapshot_id)
        except BaseException:
            await self._end(held, "destroyed")
            raise
        return held

    async def fork_live(
        self, source: ManagedSandbox, session_id: str, spec: Spec | None = None, backend: str = ""
    ) -> ManagedSandbox:
        """Creates a sandbox with a copy of another's files. Raises as `take_snapshot` and `create`."""
        taken = await self.take_snapshot(source, kernel=False)
        try:
            return await self.fork(taken.id, session_id, spec, backend)
        finally:
            with suppress(errors.SnapshotNotFound):  # deleted with its session meanwhile
                self.snapshots.delete(taken.id)

    async def close(self) -> None:
        """Ends every sandbox, closes the backends, and removes all snapshots."""
        await self._reaper.stop()
        pending = [task for task in self._once.values() if not task.done()]
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        await asyncio.gather(*(self._end(held, "owner") for held in self.listed()), return_exceptions=True)
        for backend in self._backends.values():
            await backend.close()
        self.snapshots.close()

    async def _end(self, held: ManagedSandbox, cause: str) -> None:
        """Ends a sandbox. Raises the backend's errors; the backend removes the rest in its next sweep."""
        gone = errors.SandboxGone(f"sandbox {held.handle.id} was ended: {cause}", cause)
        counted = self._registry.remove(held, gone)
        try:
            await held.handle.destroy(cause)
        finally:
            if counted:
                self._registry.cancel(held.user_id)


def _useless(task: asyncio.Task[ManagedSandbox]) -> bool:
    """Whether a task made no sandbox, or one that has ended."""
    return task.done() and (
        task.cancelled() or task.exception() is not None or task.result().handle.gone is not None
    )
