"""A LangGraph store that keeps its items in the memory of the run's user."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
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
)
from langgraph.store.memory import InMemoryStore

from portico.agent.context import Context, Remembered

MOST = 2000  # items of a user that a search without words, or a list of namespaces, looks at
_OURS = {"kept_by": "langgraph"}


class PorticoStore(BaseStore):
    """An item is a memory: found by its words, and by its namespace and key, which are its metadata.

    All agents share a user's memory, so that a namespace means the same in all of them.
    """

    def __init__(self, context: Context) -> None:
        self._memory = context.memory
        self._call = context.call

    def batch(self, ops: Iterable[Op]) -> list[Result]:
        return self._call(self.abatch(ops))

    async def abatch(self, ops: Iterable[Op]) -> list[Result]:
        return [await self._do(op) for op in ops]

    async def _do(self, op: Op) -> Result:
        match op:
            case GetOp():
                found = await self._find(op.namespace, op.key)
                return None if found is None else _item(found)
            case PutOp():
                return await self._put(op)
            case SearchOp():
                return await self._search(op)
            case ListNamespacesOp():
                kept = await self._memory.list(limit=MOST, metadata=_OURS)
                named: Result = _in_memory(kept).batch([op])[0]
                return named
        raise NotImplementedError(f"not an operation of a store: {op!r}")

    async def _find(self, namespace: Sequence[str], key: str) -> Remembered | None:
        found = await self._memory.list(limit=1, metadata=_place(namespace, key))
        return found[0] if found else None

    async def _put(self, op: PutOp) -> None:
        before = await self._find(op.namespace, op.key)
        if op.value is not None:
            now = datetime.now(UTC).isoformat()
            about = {
                **_OURS,
                **_place(op.namespace, op.key),
                "namespace": list(op.namespace),
                "key": op.key,
                "value": op.value,
                "created": before.metadata["created"] if before else now,
                "updated": now,
            }
            await self._memory.add("\n".join(_words(op.value)) or op.key, metadata=about)
        if before is not None:
            await self._memory.delete(before.memory_id)

    async def _search(self, op: SearchOp) -> list[SearchItem]:
        if op.query:
            hits = await self._memory.search(
                op.query, top_k=min(MOST, op.offset + op.limit * 8), metadata=_OURS
            )
        else:
            hits = await self._memory.list(limit=MOST, metadata=_OURS)
        # What a prefix and a filter mean, LangGraph's own store knows.
        every = op._replace(query=None, limit=len(hits) + 1, offset=0)
        fitting = {_key(item) for item in _in_memory(hits).batch([every])[0]}  # type: ignore[union-attr]
        found = [
            SearchItem(
                namespace=item.namespace,
                key=item.key,
                value=item.value,
                created_at=item.created_at,
                updated_at=item.updated_at,
                score=hit.score if op.query else None,
            )
            for hit, item in ((hit, _item(hit)) for hit in hits)
            if _key(item) in fitting
        ]
        return found[op.offset : op.offset + op.limit]


def _place(namespace: Sequence[str], key: str) -> dict[str, str]:
    return {"place": json.dumps([*namespace, key], ensure_ascii=False)}


def _key(item: Item) -> tuple[tuple[str, ...], str]:
    return tuple(item.namespace), item.key


def _item(kept: Remembered) -> Item:
    about = kept.metadata
    return Item(
        namespace=tuple(about["namespace"]),
        key=about["key"],
        value=about["value"],
        created_at=about["created"],
        updated_at=about["updated"],
    )


def _in_memory(kept: Sequence[Remembered]) -> InMemoryStore:
    store = InMemoryStore()
    for item in map(_item, kept):
        store.put(tuple(item.namespace), item.key, item.value)
    return store


def _words(value: Any) -> Iterator[str]:
    """All texts in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _words(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _words(part)
