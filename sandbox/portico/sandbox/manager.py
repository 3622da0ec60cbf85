"""The manager makes sandboxes, keeps them by owner, session and key, and ends them; and their snapshots."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from portico.sandbox import errors
from portico.sandbox.backend import Backend
from portico.sandbox.quotas import Quotas
from portico.sandbox.reaper import Reaper
from portico.sandbox.registry import Held, SandboxRegistry, everybody
from portico.sandbox.snapshots import Snapshot, Snapshots
from portico.sandbox.spec import SECONDS, Spec, check_number

Key = tuple[str, ...]


class SandboxManager:
    """Sandboxes by id, by (user_id, session_id) and by the key they were made for; and their snapshots.

    All methods belong to one event loop. `visible` says of a user id whether the caller may know of what
    belongs to that user; what it may not know of does not exist.
    """

    def __init__(
        self,
        backends: Mapping[str, Backend],
        *,
        default: str = "local",
        quotas: Quotas | None = None,
        allowed: Callable[[Spec], Awaitable[Spec]] | None = None,
    ) -> None:
        """`allowed` gives the spec that a new sandbox gets for the one that was asked for, or raises."""
        self._backends = dict(backends)
        self._default = default
        self._allowed = allowed
        quotas = quotas or Quotas()
        self._registry = SandboxRegistry(quotas)
        self.snapshots = Snapshots(quotas=quotas)
        self._once: dict[Key, asyncio.Task[Held]] = {}
        self._making: dict[asyncio.Future[Any], tuple[str, str]] = {}  # with user and session
        self._reaper = Reaper(self._registry, self._end)

    async def __aenter__(self) -> "SandboxManager":
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def open(self) -> None:
        """Opens the backends. Raises BackendUnavailable, and then none stays open."""
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

    async def create(self, spec: Spec, *, user_id: str = "", session_id: str = "", backend: str = "") -> Held:
        """Makes one more sandbox. Raises LimitExceeded, Unsupported for an unknown backend, what `allowed`
        raises, and what the backend raises."""
        made = asyncio.get_running_loop().create_future()
        self._making[made] = user_id, session_id
        try:
            held = await self._create(spec, user_id, session_id, backend or self._default)
        finally:
            del self._making[made]
            made.set_result(None)
        self._reaper.notice(held)
        return held

    async def _create(self, spec: Spec, user_id: str, session_id: str, backend: str) -> Held:
        if self._allowed is not None:
            spec = await self._allowed(spec)
        chosen = self._backends.get(backend)
        if chosen is None:
            raise errors.Unsupported(f"no backend {backend!r}; there are {', '.join(self._backends)}")
        if spec.idle_action == "pause" and "pause" in chosen.capabilities.missing:
            raise errors.Unsupported(f"idle_action: sandboxes of {chosen.name} cannot be paused")
        self._registry.reserve(user_id)
        try:
            box = await chosen.create(spec, user_id=user_id)
        except BaseException:
            self._registry.cancel(user_id)
            raise
        held = Held(box, chosen.name, user_id, session_id, time.time())
        self._registry.enter(held)
        return held

    async def own(self, spec: Spec, *, user_id: str = "", session_id: str = "", backend: str = "") -> Held:
        """The session's own sandbox of the spec's type, made if need be; many at once get the same. Raises as
        `create`."""
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
    ) -> Held:
        """The sandbox that was made for a key of an owner, while it lives; else the session's own, or a fresh
        one. Raises as `create`."""
        make = self.create if fresh else self.own
        return await self._made_once(
            ("key", *key), lambda: make(spec, user_id=user_id, session_id=session_id, backend=backend)
        )

    async def _made_once(self, key: Key, make: Callable[[], Coroutine[Any, Any, Held]]) -> Held:
        task = self._once.get(key)
        if task is None or _useless(task):
            for other in [other for other, made in self._once.items() if _useless(made)]:
                del self._once[other]
            task = self._once[key] = asyncio.create_task(make())
            task.add_done_callback(lambda done: done.cancelled() or done.exception())  # its callers raise it
        held = await asyncio.shield(task)
        self.touch(held)
        return held

    def get(self, sandbox_id: str, visible: Callable[[str], bool] = everybody) -> Held:
        """Raises SandboxNotFound, SandboxGone with the cause for one that was there."""
        return self._registry.get(sandbox_id, visible)

    @property
    def count(self) -> int:
        """How many there are."""
        return self._registry.count

    @property
    def templates(self) -> int:
        """How many templates there are, of all backends."""
        return sum(backend.templates for backend in self._backends.values())

    def listed(self, user_id: str | None = None, session_id: str | None = None) -> list[Held]:
        """Newest first; None: of all users, of all sessions."""
        return self._registry.listed(user_id, session_id)

    def tier(self, held: Held) -> str:
        """How strongly it is isolated, by its backend's own word."""
        return self._backends[held.backend].capabilities.tier

    def touch(self, held: Held) -> None:
        """Its idle time begins anew."""
        held.box.last_used = time.monotonic()

    def set_ttl(self, held: Held, seconds: float | None) -> None:
        """Lets it live so many seconds from now on. Raises InvalidRequest."""
        if seconds is not None:
            check_number("seconds", seconds, *SECONDS)
        lifetime = None if seconds is None else time.monotonic() - held.box.begun + seconds
        held.box.spec = replace(held.box.spec, ttl_seconds=lifetime)
        self._reaper.notice(held)

    async def delete(self, sandbox_id: str, visible: Callable[[str], bool] = everybody) -> None:
        """Ends a sandbox; nothing of it is left afterwards but its snapshots. Raises SandboxNotFound,
        SandboxGone."""
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
        """Ends and forgets all that a user has; how many sandboxes and how many snapshots that was."""
        await self._settled(lambda user, _session: user == user_id, lambda key: key[1] == user_id)
        held = self.listed(user_id)
        for one in held:
            with suppress(errors.SandboxNotFound, errors.SandboxGone):  # it has ended by itself
                await self.delete(one.box.id)
        taken = self.snapshots.listed(user_id)
        for snapshot in taken:
            self.snapshots.delete(snapshot.id)
        self._registry.forget(user_id)
        for key in [key for key, task in self._once.items() if key[1] == user_id and _useless(task)]:
            del self._once[key]
        return len(held), len(taken)

    async def _settled(self, making: Callable[[str, str], bool], keyed: Callable[[Key], bool]) -> None:
        """Waits for sandboxes that are being made for somebody."""
        pending: list[asyncio.Future[Any]] = [future for future, of in self._making.items() if making(*of)]
        pending += [task for key, task in self._once.items() if keyed(key) and not task.done()]
        await asyncio.gather(*pending, return_exceptions=True)

    async def take_snapshot(self, held: Held, kernel: bool = True) -> Snapshot:
        """Keeps a sandbox's files, and its kernel if it can. Raises LimitExceeded, SandboxGone."""
        owner = {"user_id": held.user_id, "session_id": held.session_id, "backend": held.backend}
        return await self.snapshots.take(held.box, kernel, **owner)

    async def roll_back(self, held: Held, snapshot_id: str) -> bool:
        """Takes a sandbox back to a snapshot of the same user; whether the kernel came back too. Raises
        SnapshotNotFound."""
        self.snapshots.get(snapshot_id, lambda user_id: user_id == held.user_id)
        return await self.snapshots.rollback(held.box, snapshot_id)

    async def fork(
        self, snapshot_id: str, session_id: str, spec: Spec | None = None, backend: str = ""
    ) -> Held:
        """A new sandbox of the snapshot's user, with its files. Raises SnapshotNotFound, and as `create`."""
        taken = self.snapshots.get(snapshot_id)
        held = await self.create(
            spec or taken.spec,
            user_id=taken.user_id,
            session_id=session_id,
            backend=backend or taken.backend,
        )
        try:
            await self.snapshots.rollback(held.box, snapshot_id)
        except BaseException:
            await self._end(held, "destroyed")
            raise
        return held

    async def fork_live(
        self, source: Held, session_id: str, spec: Spec | None = None, backend: str = ""
    ) -> Held:
        """A new sandbox with another's files as they are now. Raises as `take_snapshot` and `create`."""
        taken = await self.take_snapshot(source, kernel=False)
        try:
            return await self.fork(taken.id, session_id, spec, backend)
        finally:
            with suppress(errors.SnapshotNotFound):  # its session has ended meanwhile
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

    async def _end(self, held: Held, cause: str) -> None:
        """Raises errors of the backend, whose sweep then removes the rest."""
        gone = errors.SandboxGone(f"sandbox {held.box.id} was ended: {cause}", cause)
        counted = self._registry.leave(held, gone)
        try:
            await held.box.destroy(cause)
        finally:
            if counted:
                self._registry.cancel(held.user_id)


def _useless(task: asyncio.Task[Held]) -> bool:
    """It made no sandbox, or one that has ended."""
    return task.done() and (
        task.cancelled() or task.exception() is not None or task.result().box.gone is not None
    )
