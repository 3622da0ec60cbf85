"""Warm pools: sandboxes that are made before a caller asks, so that callers wait less. All backends use them.

A spare sandbox has run nothing. A ready one has run one cell. Both are made for a usual spec; the backend
adapts a claimed one to the caller's spec.

Callers who create many sandboxes at once are likely to do so again. For each claim that found the pool empty,
it keeps one more spare for a while.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final, Generic, NoReturn, TypeVar

from portico.sandbox import errors
from portico.sandbox.handle.sandbox_handle import SandboxHandle
from portico.sandbox.spec import NetworkPolicy, Spec

MOST: Final = 22  # spares beyond the usual number, of all pools of a backend
_AFTER: Final = 0.03  # seconds without a claim before the pool is filled
_LATELY: Final = 30.0  # seconds for which an empty pool is remembered

B = TypeVar("B", bound=SandboxHandle)


class CallerDemand:
    """State that the pools of one backend share."""

    def __init__(self) -> None:
        self.callers = 0  # that are waiting for a new sandbox
        self.pools: set[WarmPool[Any]] = set()

    @contextmanager
    def caller(self) -> Iterator[None]:
        """Suspends filling while a caller waits; useful where creating a sandbox takes only a moment."""
        self.callers += 1
        try:
            yield
        finally:
            self.callers -= 1

    @property
    def spare_capacity(self) -> int:
        """How many spares may be added beyond the usual number."""
        return MOST - sum(pool.extra for pool in self.pools)


class WarmPool(Generic[B]):
    """A warm pool of sandboxes of one kind. A backend owns it; all methods run on the backend's loop."""

    def __init__(
        self,
        make: Callable[[], Awaitable[B]],
        demand: CallerDemand,
        *,
        spares: int = 0,
        ready: int = 0,
        fit: Callable[[B], bool] = lambda _: True,
    ) -> None:
        """`make` creates a spare; `fit` says whether a live sandbox may still be handed out. `spares` and
        `ready` are the usual numbers."""
        self._make, self._demand, self._fit = make, demand, fit
        self._wanted = {"spare": spares, "ready": ready}
        self._waiting: dict[str, list[B]] = {"spare": [], "ready": []}
        self._claimed = 0.0
        self._complete = False  # whether the pool has been full once
        self._making = 0  # spares in creation
        self._missed: deque[float] = deque(maxlen=MOST)  # times of claims that found the pool empty
        self._easing: asyncio.TimerHandle | None = None
        self._filling: asyncio.TimerHandle | asyncio.Task[None] | None = None
        self._ending: set[asyncio.Task[None]] = set()
        self._closed = False
        demand.pools.add(self)

    @property
    def busy(self) -> bool:
        """Whether the pool is being filled, or about to be."""
        return self._filling is not None

    @property
    def ready(self) -> list[B]:
        """Sandboxes that have run a cell, the next to be claimed first."""
        return [box for box in self._waiting["ready"] if box.gone is None]

    @property
    def extra(self) -> int:
        """Number of spares, waiting or in creation, beyond the usual number."""
        return max(0, len(self._waiting["spare"]) + self._making - self._wanted["spare"])

    def claim(self) -> B | None:
        """Hands out a sandbox, a ready one if possible; None if the pool is empty."""
        self._claimed = time.monotonic()
        for kind in ("ready", "spare"):
            while self._waiting[kind]:
                box = self._waiting[kind].pop(0)
                if self._good(box):
                    box.begun = box.last_used = self._claimed
                    return box
        if self._complete:
            self._missed.append(self._claimed)
            if self._easing is None:
                self._easing = asyncio.get_running_loop().call_later(_LATELY, self._ease)
        return None

    def fill(self) -> None:
        """Schedules the creation of missing sandboxes, after a moment: the last caller's work goes first."""
        if self._filling is None and not self._closed and any(self._wanted.values()):
            self._filling = asyncio.get_running_loop().call_later(_AFTER, self._begin)

    async def close(self) -> None:
        """Stops filling and destroys the waiting sandboxes."""
        self._closed = True
        self._demand.pools.discard(self)
        if self._easing is not None:
            self._easing.cancel()
        filling, self._filling = self._filling, None
        if filling is not None:
            filling.cancel()
        if isinstance(filling, asyncio.Task):
            await asyncio.gather(filling, return_exceptions=True)
        waiting = [box for boxes in self._waiting.values() for box in boxes]
        for boxes in self._waiting.values():
            boxes.clear()
        ends = (box.destroy() for box in waiting)
        await asyncio.gather(*ends, *self._ending, return_exceptions=True)
        # Both may refer to the pool's owner and to open directories, whose release must not depend on the
        # garbage collector.
        self._make, self._fit = _refuse, lambda _: False

    def _begin(self) -> None:
        self._filling = asyncio.ensure_future(self._fill())

    async def _fill(self) -> None:
        try:
            while (kind := self._missing()) is not None:
                if self._demand.callers or time.monotonic() < self._claimed + _AFTER:
                    await asyncio.sleep(_AFTER)
                    continue
                if kind == "ready":
                    spares = self._waiting["spare"]
                    box = spares.pop(0) if spares else await self._make()
                    await _run_first_cell(box)
                else:
                    box = await self._make_spare()
                self._waiting[kind].append(box)
            self._complete = True
        except errors.SandboxError:
            return  # the next claim retries, and its caller gets the error
        finally:
            self._filling = None

    async def _make_spare(self) -> B:
        self._making += 1
        try:
            return await self._make()
        finally:
            self._making -= 1

    def _missing(self) -> str | None:
        for kind, wanted in self._wanted.items():
            self._waiting[kind] = [box for box in self._waiting[kind] if self._good(box)]
            if len(self._waiting[kind]) < wanted:
                return kind
        if self._wanted["spare"] and self.extra < self._expected() and self._demand.spare_capacity > 0:
            return "spare"
        return None

    def _good(self, box: B) -> bool:
        """Whether a sandbox can be handed out. Destroys a live one that is not fit."""
        if box.gone is not None:
            return False
        if not self._fit(box):
            self._end(box)
            return False
        return True

    def _end(self, box: B) -> None:
        task = asyncio.ensure_future(box.destroy())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    def _expected(self) -> int:
        """Returns how many spares beyond the usual number would have been used lately."""
        while self._missed and self._missed[0] + _LATELY < time.monotonic():
            self._missed.popleft()
        return len(self._missed)

    def _ease(self) -> None:
        """Destroys spares that are no longer expected to be used, and schedules the next check."""
        self._easing = None
        for _ in range(self.extra - self._expected()):
            self._end(self._waiting["spare"].pop())
        if self._missed:
            later = self._missed[0] + _LATELY - time.monotonic()
            self._easing = asyncio.get_running_loop().call_later(max(0.1, later), self._ease)


async def _run_first_cell(box: SandboxHandle) -> None:
    """Runs a first cell, which touches the memory that the next cells need."""
    try:
        limit = box.spec.limits.output_bytes
        await box.request("cell", code="1 + 1", output_bytes=limit, trial=True)
    except BaseException:
        await box.destroy()
        raise


def claim_default(
    pool: WarmPool[B], usual: Spec, spec: Spec, boxes: dict[str, B], sandbox_id: str | None
) -> B | None:
    """Claims a sandbox that was made for `usual` and gives it the caller's spec and id; None if the specs do
    not match or the pool is empty. The caller still sends the environment. `boxes` holds the backend's
    sandboxes by id and is updated."""
    box = pool.claim() if is_compatible(usual, spec) else None
    if box is None:
        return None
    pool.fill()
    box.spec = spec
    if sandbox_id is not None:
        boxes[sandbox_id] = boxes.pop(box.id)
        box.id = sandbox_id
    return box


def is_compatible(made: Spec, asked: Spec) -> bool:
    """Whether a sandbox made for one spec can serve another by changing only its environment."""
    return _kind(made) == _kind(asked)


def _kind(spec: Spec) -> Spec:
    """Returns the spec without the parts that a claim sets or that the owner enforces."""
    return replace(
        spec,
        type="base",
        limits=replace(spec.limits, output_bytes=0, call_seconds=0),
        env={},
        network=spec.network if spec.network.allow_hosts else NetworkPolicy(),
        ttl_seconds=None,
        idle_seconds=None,
        idle_action=None,
        metadata={},
    )


async def _refuse() -> NoReturn:
    raise errors.BackendUnavailable("the pool is closed")
