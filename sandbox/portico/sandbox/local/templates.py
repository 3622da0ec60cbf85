"""Templates that sandboxes are forked from. Each has a zygote and a warm pool.

A template is a set of mounts and preloaded modules. Callers choose these, so the number of templates is
limited, and so is each user's share. A template without a caller's sandbox can be dropped for a new one:
first those of the user with the most templates, and of these the least recently used.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Final

from portico.sandbox import errors
from portico.sandbox.local.local_sandbox import LocalBox
from portico.sandbox.local.zygotes import ZygoteKind, ZygoteProcess
from portico.sandbox.spec import Spec
from portico.sandbox.warm_pool import CallerDemand, WarmPool

PLAIN: Final[ZygoteKind] = ((), ())  # always exists and does not count
MAX_TEMPLATES: Final = 16
MAX_TEMPLATES_PER_USER: Final = 8  # templates that one user may use; a call without a user has no limit
IDLE_SECONDS: Final = 1_800.0  # seconds without use after which a template without callers' sandboxes ends
_LOOK: Final = 60.0  # seconds between two checks
_REPLACED: Final = 8  # replaced zygotes that may still have sandboxes


class ZygoteTemplate:
    """One template: its zygote, its pool, and the sandboxes that callers have of it."""

    def __init__(self, kind: ZygoteKind, user_id: str) -> None:
        self.kind = kind
        self.user_id = user_id  # of the last caller
        self.asked = 0.0  # monotonic time of the last use
        self.given: dict[LocalBox, str] = {}  # sandboxes of callers, with their users
        self.callers = 0  # calls that are creating a sandbox
        self.starting: asyncio.Task[ZygoteProcess]
        self.pool: WarmPool[LocalBox]

    @property
    def users(self) -> set[str]:
        """The users whose share it counts in."""
        return set(self.given.values()) or {self.user_id}

    @property
    def zygote(self) -> ZygoteProcess | None:
        """The zygote; None while it starts, or if it could not start."""
        done = self.starting.done() and not self.starting.cancelled() and not self.starting.exception()
        return self.starting.result() if done else None

    @property
    def idle(self) -> bool:
        """Whether no caller has or is creating a sandbox of it."""
        return self.zygote is not None and not self.callers and not self.given


class ZygoteTemplates:
    """The templates of one backend, on its loop."""

    def __init__(
        self,
        start: Callable[[ZygoteKind], Coroutine[Any, Any, ZygoteProcess]],
        make: Callable[[Spec, ZygoteTemplate], Awaitable[LocalBox]],
        zygote_of: Callable[[LocalBox], ZygoteProcess],
        *,
        spares: int,
        ready: int,
    ) -> None:
        """Each template keeps `spares` pooled sandboxes, and the plain one `ready` more that have run a
        cell."""
        self.demand = CallerDemand()
        self._start, self._make, self._zygote_of = start, make, zygote_of
        self._spares, self._ready = spares, ready
        self._templates: dict[ZygoteKind, ZygoteTemplate] = {}  # in order of last use
        self._replaced: set[ZygoteProcess] = set()
        self._ending: set[asyncio.Task[None]] = set()
        self._looking: asyncio.TimerHandle | None = None

    @property
    def count(self) -> int:
        """Number of templates, and of replaced zygotes that still have sandboxes."""
        return len(self._templates) + len(self._replaced)

    @contextmanager
    def use(self, kind: ZygoteKind, user_id: str) -> Iterator[ZygoteTemplate]:
        """Yields the template, which is not dropped meanwhile. Raises LimitExceeded("templates")."""
        template = self._templates.pop(kind, None)
        if template is None:
            self._victims(user_id, 1) if kind != PLAIN else None
            template = self._open(kind, user_id)
        self._templates[kind] = template
        template.user_id, template.asked = user_id, time.monotonic()
        template.callers += 1
        try:
            yield template
        finally:
            template.callers -= 1

    def _open(self, kind: ZygoteKind, user_id: str) -> ZygoteTemplate:
        template, spec = ZygoteTemplate(kind, user_id), Spec(mounts=kind[0], preload=kind[1])
        template.starting = self._begin(template, self._start_new(template, user_id))
        template.pool = WarmPool(
            lambda: self._make(spec, template),
            self.demand,
            spares=self._spares,
            ready=self._ready if kind == PLAIN else 0,
            fit=lambda box: self._fit(template, self._zygote_of(box)),
        )
        if kind != PLAIN and self._looking is None:
            self._looking = asyncio.get_running_loop().call_later(_LOOK, self._look)
        return template

    def _look(self) -> None:
        """Drops templates that were unused for a long time."""
        counted = [template for kind, template in self._templates.items() if kind != PLAIN]
        for template in counted:
            if template.idle and template.asked + IDLE_SECONDS < time.monotonic():
                self._drop(template)
        self._looking = asyncio.get_running_loop().call_later(_LOOK, self._look) if counted else None

    async def zygote(self, template: ZygoteTemplate) -> ZygoteProcess:
        """Returns the zygote; starts a new one if the last has ended or is worn. Raises the errors of its
        start, and LimitExceeded."""
        zygote = template.zygote
        if zygote is not None and self._replaceable(zygote):
            self._replaced.add(zygote)
            self.release_zygote(zygote)
            template.starting = self._begin(template, self._start(template.kind))
        starting = template.starting
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            if starting.cancelled():
                raise errors.BackendUnavailable("the local backend has been closed") from None
            raise

    def _replaceable(self, zygote: ZygoteProcess) -> bool:
        return zygote.ended or (zygote.needs_replacement and len(self._replaced) < _REPLACED)

    def _fit(self, template: ZygoteTemplate, zygote: ZygoteProcess) -> bool:
        return zygote is template.zygote and not self._replaceable(zygote)

    def _begin(
        self, template: ZygoteTemplate, start: Coroutine[Any, Any, ZygoteProcess]
    ) -> asyncio.Task[ZygoteProcess]:
        starting = asyncio.ensure_future(start)
        starting.add_done_callback(lambda done: self._started(template, done))
        return starting

    async def _start_new(self, template: ZygoteTemplate, user_id: str) -> ZygoteProcess:
        """Starts a zygote, then drops other templates for it; one that cannot start displaces none."""
        zygote = await self._start(template.kind)
        try:
            for victim in self._victims(user_id, 0) if template.kind != PLAIN else ():
                self._drop(victim)
        except errors.LimitExceeded:
            await zygote.stop()
            raise
        return zygote

    def _started(self, template: ZygoteTemplate, starting: asyncio.Task[ZygoteProcess]) -> None:
        failed = starting.cancelled() or starting.exception() is not None
        if failed and template.starting is starting and self._templates.get(template.kind) is template:
            self._drop(template)

    def _victims(self, user_id: str, more: int) -> list[ZygoteTemplate]:
        """Returns the idle templates that must be dropped for `more` templates of this user. Raises
        LimitExceeded when dropping all of them is not enough."""
        counted = [template for kind, template in self._templates.items() if kind != PLAIN]
        held = Counter(user for template in counted for user in template.users)
        held[user_id] += more
        idle = [template for template in counted if template.idle]
        victims: list[ZygoteTemplate] = []
        while True:
            over_share = user_id != "" and held[user_id] > MAX_TEMPLATES_PER_USER
            if not over_share and len(counted) + more - len(victims) <= MAX_TEMPLATES:
                return victims
            able = [template for template in idle if not over_share or template.user_id == user_id]
            if not able:
                whose = (
                    f"the user's sandboxes use {MAX_TEMPLATES_PER_USER}"
                    if over_share
                    else f"sandboxes use {MAX_TEMPLATES}"
                )
                raise errors.LimitExceeded(
                    f"{whose} sets of mounts and preloaded modules already; use one of them, or end some",
                    "templates",
                )
            victim = max(able, key=lambda template: held[template.user_id])  # ties: least recently used
            idle.remove(victim)
            victims.append(victim)
            held[victim.user_id] -= 1

    def _drop(self, template: ZygoteTemplate) -> None:
        """Drops a template that has only pooled sandboxes."""
        del self._templates[template.kind]
        self._later(self._end(template))

    async def _end(self, template: ZygoteTemplate) -> None:
        await template.pool.close()
        if template.zygote is not None:
            await template.zygote.stop()

    def ended(self, box: LocalBox) -> None:
        """Removes a sandbox that has ended from its template."""
        for template in self._templates.values():
            template.given.pop(box, None)

    def release_zygote(self, zygote: ZygoteProcess) -> None:
        """Stops a replaced zygote after its last sandbox: a zygote's sandboxes end with it."""
        if zygote in self._replaced and zygote.living <= 0:
            self._replaced.discard(zygote)
            self._later(zygote.stop())

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def close_pools(self) -> None:
        await asyncio.gather(*(template.pool.close() for template in self._templates.values()))

    async def close(self) -> None:
        """Stops every zygote. Callers' sandboxes must have ended before."""
        if self._looking is not None:
            self._looking.cancel()
        templates = list(self._templates.values())
        self._templates.clear()
        for template in templates:
            template.starting.cancel()
        await asyncio.gather(*(template.starting for template in templates), return_exceptions=True)
        await asyncio.gather(*map(self._end, templates), *(zygote.stop() for zygote in self._replaced))
        self._replaced.clear()
        await asyncio.gather(*self._ending, return_exceptions=True)
