"""A LangGraph store that keeps its items in the memory of the run's user."""

import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from itertools import takewhile
from typing import Any

from langgraph.store.base import (
    BaseStore,
    GetOp,
    Item,
    ListNamespacesOp,
    Op,
    PutOp,
    Result,
    SearchItem,
    SearchOp,
    TTLConfig,
)
from langgraph.store.memory import InMemoryStore

from portico.agent.context import Context, Remembered
from portico.frameworks.langgraph.store_filters import below
from portico.frameworks.langgraph.store_items import (
    PLACE,
    VALUE_CHARACTERS,
    created,
    expiry,
    is_item,
    is_old,
    item_of,
    kept_by,
    memory_key,
    metadata_of,
    place_text,
    searched_text,
)

PAGE = 200
HITS = 100  # maximum results of a search by words
QUERY_CHARACTERS = 1024  # maximum length of a query; the rest is ignored
_Place = tuple[tuple[str, ...], str]


class PorticoStore(BaseStore):
    """A LangGraph store. An item is a memory whose key is the item's namespace and key.

    All agents share a user's memory, so a namespace is the same for all of them. As in LangGraph's own
    store, reads of a batch see the items before the batch, and the last of several puts of one key counts.
    Items are listed newest first; results of a query best first.
    """

    supports_ttl = True

    def __init__(self, context: Context, *, ttl: TTLConfig | None = None) -> None:
        """Opens the store; `ttl` sets the defaults of new items, as LangGraph's database stores do."""
        self.ttl_config = ttl
        self._memory = context.memory
        self._call = context.call
        self._old: bool | None = None  # whether items of an earlier version are stored

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        return self._call(self.abatch(ops))

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        given = list(ops)
        puts = {(op.namespace, op.key): op for op in given if isinstance(op, PutOp)}
        results = [None if isinstance(op, PutOp) else await self._read(op) for op in given]
        for op in puts.values():
            await self._put(op)
        return results

    async def _read(self, op: Op) -> Result:
        match op:
            case GetOp():
                return await self._get(op)
            case SearchOp():
                return await self._search(op)
            case ListNamespacesOp():
                return await self._namespaces(op)
        raise ValueError(f"not an operation of a store: {op!r}")

    async def _get(self, op: GetOp) -> Item | None:
        found = await self._memory.get(key=memory_key(op.namespace, op.key))
        if found is None:
            found = next(iter(await self._old_ones(op.namespace, op.key)), None)
        if found is None or not is_item(found):
            return None
        if op.refresh_ttl:
            await self._live_on(found)
        return item_of(found)

    async def _put(self, op: PutOp) -> None:
        key, now = memory_key(op.namespace, op.key), time.time()
        old = await self._old_ones(op.namespace, op.key)
        if op.value is not None:
            first = min((created(one) for one in old), default=None)
            await self._memory.add(
                searched_text(op),
                metadata=metadata_of(op, now),
                key=key,
                created_at=now if first is None else first.timestamp(),
                expires_at=expiry(op.ttl, now),
            )
        # Memories of earlier versions are deleted after the new item is stored, and before it is deleted, so
        # that no search returns them again.
        for one in old:
            await self._memory.delete(one.memory_id)
        if op.value is None:
            await self._memory.delete(key=key)

    async def _search(self, op: SearchOp) -> list[SearchItem]:
        query = (op.query or "").strip()[:QUERY_CHARACTERS]
        chosen = below(op.namespace_prefix, op.filter, old=await self._has_old())
        if query:
            hits = await self._memory.search(query, top_k=HITS, filter=chosen)
            found = await self._once(_fitting(list(filter(is_item, hits)), op), set())
        else:
            found = await self._listed(op, chosen)
        page = found[op.offset : op.offset + op.limit]
        if op.refresh_ttl:
            for one in page:
                await self._live_on(one)
        return [_search_item(one, one.score if query else None) for one in page]

    async def _listed(self, op: SearchOp, chosen: Mapping[str, Any]) -> list[Remembered]:
        # A negative bound counts from the end, as in LangGraph's own store.
        enough = op.offset + op.limit if min(op.offset, op.limit) >= 0 else None
        found: list[Remembered] = []
        seen: set[_Place] = set()
        async for page in self._pages(chosen):
            found += await self._once(_fitting(page, op), seen)
            if enough is not None and len(found) >= enough:
                break
        return found

    async def _namespaces(self, op: ListNamespacesOp) -> Result:
        conditions = op.match_conditions or ()
        prefix = next((one.path for one in conditions if one.match_type == "prefix"), ())
        labels = tuple(takewhile(lambda label: label != "*", prefix))
        store = InMemoryStore()
        async for page in self._pages(below(labels, old=await self._has_old())):
            for one in page:
                store.batch([PutOp(tuple(one.metadata["namespace"]), "any", {})])
        named: Result = store.batch([op])[0]
        return named

    async def _pages(self, chosen: Mapping[str, Any]) -> AsyncIterator[Sequence[Remembered]]:
        page = await self._memory.list(limit=PAGE, filter=chosen)
        while page:
            yield list(filter(is_item, page))
            page = await self._memory.list(limit=PAGE, filter=chosen, before=page[-1])

    async def _once(self, found: Iterable[Remembered], seen: set[_Place]) -> list[Remembered]:
        """Removes duplicates: a new item replaces old ones; without one, the newest of the earlier versions
        counts.
        """
        kept = []
        for one in found:
            place = (tuple(one.metadata["namespace"]), one.metadata["key"])
            if is_old(one) and (place in seen or await self._memory.get(key=memory_key(*place))):
                continue
            seen.add(place)
            kept.append(one)
        return kept

    async def _live_on(self, found: Remembered) -> None:
        if found.expires_at is not None and found.metadata.get("ttl") is not None:
            expires_at = expiry(found.metadata["ttl"], time.time())
            await self._memory.update(found.memory_id, expires_at=expires_at)

    async def _has_old(self) -> bool:
        if self._old is None:
            self._old = bool(await self._memory.list(limit=1, filter={"all": [kept_by()]}))
        return self._old

    async def _old_ones(self, namespace: Sequence[str], key: str) -> list[Remembered]:
        """Returns the memories in which earlier versions stored an item, newest first."""
        if not await self._has_old():
            return []
        place = place_text(namespace, key)
        begins = {"path": PLACE, "operator": "prefix", "value": place[:VALUE_CHARACTERS]}
        pages = self._pages({"all": [kept_by(), begins]})
        return [one async for page in pages for one in page if one.metadata[PLACE] == place]


def _fitting(found: Sequence[Remembered], op: SearchOp) -> list[Remembered]:
    """Returns the items that match; LangGraph's own store evaluates the prefix and the filter."""
    store = InMemoryStore()
    items = [item_of(one) for one in found]
    store.batch([PutOp(item.namespace, str(index), item.value) for index, item in enumerate(items)])
    every = op._replace(query=None, limit=len(found) + 1, offset=0)
    fitting = {int(item.key) for item in store.batch([every])[0]}  # type: ignore[union-attr]
    return [one for index, one in enumerate(found) if index in fitting]


def _search_item(found: Remembered, score: float | None) -> SearchItem:
    item = item_of(found)
    return SearchItem(
        namespace=item.namespace,
        key=item.key,
        value=item.value,
        created_at=item.created_at,
        updated_at=item.updated_at,
        score=score,
    )
