"""Claims on push configs: one gateway at a time delivers a config; if it leaves, another one takes over."""

import asyncio
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TypeAlias

from portico.core.stores.ports.push_configs import PushRecord
from portico.telemetry.metrics import counters

Key: TypeAlias = tuple[str, str]  # run and config


class PushClaimer:
    """One gateway that delivers push configs, and the changes not yet sent to it."""

    def __init__(self) -> None:
        self.held: set[Key] = set()
        self._given: dict[Key, PushRecord] = {}
        self._removed: set[Key] = set()
        self._changed = asyncio.Event()
        self._changed.set()  # the first response is sent at once
        self._cut = False

    def assign(self, key: Key, record: PushRecord) -> None:
        self.held.add(key)
        self._given[key] = record
        self._removed.discard(key)
        self._changed.set()

    def withdraw(self, key: Key) -> None:
        self.held.discard(key)
        self._given.pop(key, None)
        self._removed.add(key)
        self._changed.set()

    def cut(self) -> None:
        """Ends `changes`."""
        self._cut = True
        self._changed.set()

    async def changes(self) -> AsyncIterator[tuple[list[PushRecord], list[Key]]]:
        """Yields new claims and lost claims, whenever they change."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            if self._cut:
                return
            given, removed = list(self._given.values()), list(self._removed)
            self._given.clear()
            self._removed.clear()
            yield given, removed


class PushClaims:
    """All configs whose delivery has not ended, with their claimers. For use on the event loop only."""

    def __init__(self) -> None:
        self._records: dict[Key, PushRecord] = {}
        self._claimers: list[PushClaimer] = []
        counters.gauge(
            "portico.push.pending",
            "{config}",
            "Push configs whose delivery has not ended: claimed by a gateway, or waiting for one.",
            self._pending,
        )

    def _pending(self) -> counters.Looked:
        held = sum(len(claimer.held) for claimer in tuple(self._claimers))
        return [(held, {"state": "held"}), (max(len(self._records) - held, 0), {"state": "waiting"})]

    def add(self, record: PushRecord, *, known: bool = False) -> None:
        """Adds a config that was set; with `known`, one read from the store, which replaces no newer one."""
        key = record.run_id, record.config_id
        if known and key in self._records:
            return
        self._records[key] = record
        self._assign(key)

    def remove(self, key: Key) -> None:
        """Removes a deleted config."""
        if self._records.pop(key, None) is not None and (holder := self._holder(key)) is not None:
            holder.withdraw(key)

    def forget(self, run_ids: Collection[str]) -> None:
        """Removes all configs of deleted runs."""
        for key in [key for key in self._records if key[0] in run_ids]:
            self.remove(key)

    def record_delivery(self, key: Key, revision: str, number: int, *, ended: bool) -> None:
        """Notes the last event that the claimer has delivered."""
        record = self._records.get(key)
        if record is None or record.revision != revision:
            return
        if ended:
            del self._records[key]
            if (holder := self._holder(key)) is not None:
                holder.held.discard(key)
        else:
            self._records[key] = replace(record, delivered=max(record.delivered, number))

    @contextmanager
    def claiming(self) -> Iterator[PushClaimer]:
        """Adds a claimer while the context lasts; it gets unclaimed configs at once."""
        claimer = PushClaimer()
        self._claimers.append(claimer)
        held = {key for other in self._claimers for key in other.held}
        for key in self._records.keys() - held:
            self._assign(key)
        try:
            yield claimer
        finally:
            self._claimers.remove(claimer)
            for key in claimer.held:
                if key in self._records:
                    self._assign(key)

    def _assign(self, key: Key) -> None:
        """Assigns a config to its current claimer, or to the claimer with the fewest configs."""
        if self._claimers:
            holder = self._holder(key) or min(self._claimers, key=lambda claimer: len(claimer.held))
            holder.assign(key, self._records[key])

    def _holder(self, key: Key) -> PushClaimer | None:
        return next((claimer for claimer in self._claimers if key in claimer.held), None)
