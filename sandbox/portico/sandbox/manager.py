"""Who owns which sandbox, and for how long. It is bounded, and everything it made is gone when it closes."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from portico.sandbox import errors
from portico.sandbox.backend import Backend
from portico.sandbox.box import Box
from portico.sandbox.spec import Spec

_NAP: Final = 5.0  # seconds at most between two looks for what has expired
_MAX_REMEMBERED: Final = 1_000  # ended sandboxes of which is known why they ended


@dataclass(frozen=True, slots=True)
class Held:
    """A sandbox with what the manager knows of it."""

    box: Box
    backend: str
    user_id: str
    session_id: str
    created: float  # Unix seconds


class SandboxManager:
    """Sandboxes by id, and one by (user_id, session_id). What belongs to another user does not exist."""

    def __init__(
        self, backends: Mapping[str, Backend], *, default: str = "local", max_sandboxes: int = 200
    ) -> None:
        self._backends = dict(backends)
        self._default = default
        self._max = max_sandboxes
        self._held: dict[str, Held] = {}
        self._by_session: dict[tuple[str, str], asyncio.Task[Held]] = {}
        self._ended: dict[str, tuple[str, errors.SandboxGone]] = {}  # with whose it was
        self._making = 0
        self._reaper: asyncio.Task[None] | None = None
        self._next_look = 0.0  # the reaper's, by the monotonic clock
        self._changed = asyncio.Event()

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
        self._reaper = asyncio.ensure_future(self._reap())

    async def create(self, spec: Spec, *, user_id: str = "", session_id: str = "", backend: str = "") -> Held:
        """Makes one more sandbox. Raises LimitExceeded("sandboxes"), Unsupported for an unknown backend,
        and what the backend raises."""
        chosen = self._backends.get(backend or self._default)
        if chosen is None:
            raise errors.Unsupported(
                f"no backend {backend or self._default!r}; there are {', '.join(self._backends)}"
            )
        if len(self._held) + self._making >= self._max:
            raise errors.LimitExceeded(f"there are {self._max} sandboxes already", "sandboxes")
        self._making += 1
        try:
            box = await chosen.create(spec)
        finally:
            self._making -= 1
        held = Held(box, chosen.name, user_id, session_id, time.time())
        self._held[box.id] = held
        self._look_in_time(held)
        return held

    async def connect(
        self, user_id: str, session_id: str, spec: Spec | None = None, backend: str = ""
    ) -> Held:
        """The sandbox of a session, made at the first call; many at once get the same. Raises as `create`."""
        key = (user_id, session_id)
        task = self._by_session.get(key)
        if (
            task is not None
            and task.done()
            and (task.exception() is not None or task.result().box.gone is not None)
        ):
            task = None
        if task is None:
            made = self.create(spec or Spec(), user_id=user_id, session_id=session_id, backend=backend)
            task = self._by_session[key] = asyncio.ensure_future(made)
            task.add_done_callback(lambda done: done.cancelled() or done.exception())  # told to whoever waits
        held = await asyncio.shield(task)
        self.touch(held.box.id, user_id)
        return held

    def get(self, sandbox_id: str, user_id: str | None = None) -> Held:
        """Raises SandboxNotFound, SandboxGone with the cause for one that was there. No user: whoever's it
        is.
        """
        held = self._held.get(sandbox_id)
        if held is None or (user_id is not None and held.user_id != user_id):
            owner, gone = self._ended.get(sandbox_id, ("", None))
            if gone is not None and user_id in (None, owner):
                raise gone
            raise errors.SandboxNotFound(f"no sandbox {sandbox_id!r}")
        if held.box.gone is not None:
            self._forget(held)
            raise held.box.gone
        return held

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._held)

    def list_held(self, user_id: str | None = None) -> list[Held]:
        return [
            held for held in self._held.values() if user_id in (None, held.user_id) and held.box.gone is None
        ]

    def touch(self, sandbox_id: str, user_id: str | None = None) -> None:
        """Says that it is in use; its idle time begins anew. Raises SandboxNotFound, SandboxGone."""
        self.get(sandbox_id, user_id).box.last_used = time.monotonic()

    def set_ttl(self, sandbox_id: str, seconds: float | None, user_id: str | None = None) -> None:
        """Lets it live so many seconds from now on."""
        held = self.get(sandbox_id, user_id)
        lifetime = None if seconds is None else time.monotonic() - held.box.begun + seconds
        held.box.spec = replace(held.box.spec, ttl_seconds=lifetime)
        self._look_in_time(held)

    async def delete(self, sandbox_id: str, user_id: str | None = None) -> None:
        """Ends a sandbox; nothing of it is left afterwards. Raises SandboxNotFound, SandboxGone."""
        await self._end(self.get(sandbox_id, user_id), "destroyed")

    async def release(self, user_id: str, session_id: str) -> None:
        """Ends what belongs to a session that has ended."""
        self._by_session.pop((user_id, session_id), None)
        mine = [
            held for held in self._held.values() if (held.user_id, held.session_id) == (user_id, session_id)
        ]
        await asyncio.gather(*(self._end(held, "destroyed") for held in mine))

    async def close(self) -> None:
        """Ends every sandbox and closes the backends."""
        if self._reaper is not None:
            self._reaper.cancel()
            await asyncio.gather(self._reaper, return_exceptions=True)
        pending = [task for task in self._by_session.values() if not task.done()]
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        await asyncio.gather(
            *(self._end(held, "owner") for held in list(self._held.values())), return_exceptions=True
        )
        for backend in self._backends.values():
            await backend.close()

    async def _end(self, held: Held, cause: str) -> None:
        self._forget(held)
        await held.box.destroy(cause)
        if held.box.gone is not None:
            self._ended[held.box.id] = held.user_id, held.box.gone

    def _forget(self, held: Held) -> None:
        self._held.pop(held.box.id, None)
        task = self._by_session.get((held.user_id, held.session_id))
        if task is not None and task.done() and not task.exception() and task.result() is held:
            del self._by_session[held.user_id, held.session_id]
        if held.box.gone is not None:
            self._ended[held.box.id] = held.user_id, held.box.gone
        while len(self._ended) > _MAX_REMEMBERED:
            del self._ended[next(iter(self._ended))]

    def _look_in_time(self, held: Held) -> None:
        """The reaper looks at all there are; most new ones have more time left than it sleeps."""
        if time.monotonic() + remaining(held.box)[0] < self._next_look:
            self._changed.set()

    async def _reap(self) -> None:
        while True:
            self._changed.clear()
            self._next_look = float("inf")  # whoever comes meanwhile is looked at in another round
            nap = _NAP
            for held in list(self._held.values()):
                left, cause = remaining(held.box)
                if held.box.gone is not None:
                    self._forget(held)
                elif left <= 0:
                    try:
                        await self._end(held, cause)
                    except errors.SandboxError:
                        continue  # it will be looked at again
                else:
                    nap = min(nap, left)
            self._next_look = time.monotonic() + nap
            try:
                async with asyncio.timeout(nap):
                    await self._changed.wait()
            except TimeoutError:
                continue


def remaining(box: Box) -> tuple[float, str]:
    """Seconds a sandbox has left, and what will have ended it."""
    ends = [(float("inf"), "")]
    if box.spec.ttl_seconds is not None:
        ends.append((box.begun + box.spec.ttl_seconds - time.monotonic(), "expired"))
    if box.spec.idle_seconds is not None and not box.busy:
        ends.append((box.last_used + box.spec.idle_seconds - time.monotonic(), "idle"))
    return min(ends)
