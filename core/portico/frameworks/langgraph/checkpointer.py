"""A LangGraph checkpointer that stores its threads in the state of the run's session."""

import asyncio
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any
from weakref import WeakValueDictionary

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    get_checkpoint_id,
    get_checkpoint_metadata,
    writes_sort_key,
)

from portico.agent.context import Context, StateAccess

KEPT = 50  # checkpoints of a thread and namespace; older ones are removed
INDEX = 1  # the round that lists the others

# A core owns its database, so a lock in this process is enough for runs that share a thread.
_locks: WeakValueDictionary[tuple[str, str, str], asyncio.Lock] = WeakValueDictionary()


class PorticoSaver(BaseCheckpointSaver[str]):
    """Belongs to one run; its threads belong to the session and outlive the run.

    A thread is a part of the session's state: a round for each checkpoint with its pending writes, and a
    first round that is the index. A checkpoint is written before the index names it, so that a crash
    leaves the thread in its previous state.
    """

    def __init__(self, context: Context, *, kept: int = KEPT) -> None:
        super().__init__()
        self._state = context.state
        self._owner = (context.user_id, context.session_id)
        self._call = context.call
        self._kept = kept

    def _thread(self, thread_id: str) -> StateAccess:
        return self._state.part(f"langgraph:{thread_id}")

    @asynccontextmanager
    async def _alone(self, thread_id: str) -> AsyncIterator[StateAccess]:
        key = (*self._owner, thread_id)
        lock = _locks.setdefault(key, asyncio.Lock())
        async with lock:
            yield self._thread(thread_id)

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        thread_id, ns = _place(config)
        about = get_checkpoint_metadata(config, metadata)
        id = checkpoint["id"]
        body = {"checkpoint": self._dump(checkpoint), "metadata": self._dump(about)}
        async with self._alone(thread_id) as thread:
            index = await _index(thread)
            known = _row(index, ns, id)
            before = await thread.load(round_id=known[2]) if known else None
            writes = before.state["writes"] if before else []
            number = known[2] if known else _next(index)
            saved = {"ns": ns, "id": id, "parent": get_checkpoint_id(config), "writes": writes, **body}
            await thread.save(saved, round_id=number)
            index = [row for row in index if row is not known] + [[ns, id, number, True]]
            # A delta channel is rebuilt from all checkpoints before it.
            going = [] if "counters_since_delta_snapshot" in about else self._superfluous(index, ns)
            await thread.save({"checkpoints": [r for r in index if r not in going]}, round_id=INDEX)
            for row in going:
                await thread.delete(round_id=row[2])
        return _config(thread_id, ns, checkpoint["id"])

    def _superfluous(self, index: list[list[Any]], ns: str) -> list[list[Any]]:
        rows = sorted((row for row in index if row[0] == ns), key=lambda row: str(row[1]))
        return rows[: -self._kept]

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        thread_id, ns = _place(config)
        id = get_checkpoint_id(config)
        async with self._alone(thread_id) as thread:
            index = await _index(thread)
            known = _row(index, ns, id)
            before = await thread.load(round_id=known[2]) if known else None
            # LangGraph saves in the background: writes of tasks may arrive before their checkpoint.
            saved = before.state if before else {"ns": ns, "id": id, "parent": None, "writes": []}
            number = known[2] if known else _next(index)
            kept = {(row[0], row[1]): row for row in saved["writes"]}
            for place, (channel, value) in enumerate(writes):
                key = (task_id, WRITES_IDX_MAP.get(channel, place))
                # Regular writes of a task are kept; only errors, interrupts and the like are replaced.
                if key[1] < 0 or key not in kept:
                    kept[key] = [*key, channel, self._dump(value), task_path]
            await thread.save({**saved, "writes": list(kept.values())}, round_id=number)
            if known is None:
                await thread.save({"checkpoints": [*index, [ns, id, number, False]]}, round_id=INDEX)

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        thread_id, ns = _place(config)
        thread = self._thread(thread_id)
        wanted = get_checkpoint_id(config)
        rows = [
            row for row in await _index(thread) if row[3] and row[0] == ns and wanted in (None, "", row[1])
        ]
        if not rows:
            return None
        return await self._load(thread, thread_id, max(rows, key=lambda row: str(row[1]))[2])

    async def _load(self, thread: StateAccess, thread_id: str, number: int) -> CheckpointTuple | None:
        saved = await thread.load(round_id=number)
        return None if saved is None else self._tuple(thread_id, saved.state)

    def _tuple(self, thread_id: str, saved: Mapping[str, Any]) -> CheckpointTuple:
        ns, parent = saved["ns"], saved["parent"]
        writes = sorted(saved["writes"], key=lambda row: writes_sort_key(row[4], row[0], row[1]))
        return CheckpointTuple(
            config=_config(thread_id, ns, saved["id"]),
            checkpoint=self._read(saved["checkpoint"]),
            metadata=self._read(saved["metadata"]),
            parent_config=_config(thread_id, ns, parent) if parent else None,
            pending_writes=[(row[0], row[2], self._read(row[3])) for row in writes],
        )

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """Yields checkpoints, newest first. Raises ValueError without a thread: a session has no list of its
        threads.
        """
        if config is None:
            raise ValueError("name a thread: config={'configurable': {'thread_id': ...}}")
        thread_id = config["configurable"]["thread_id"]
        ns = config["configurable"].get("checkpoint_ns")
        wanted = get_checkpoint_id(config)
        end = get_checkpoint_id(before) if before else None
        thread = self._thread(thread_id)
        left = limit
        for row in sorted(await _index(thread), key=lambda row: str(row[1]), reverse=True):
            if left is not None and left <= 0:
                return
            if not row[3]:
                continue
            if ns not in (None, row[0]) or wanted not in (None, row[1]) or (end and row[1] >= end):
                continue
            found = await self._load(thread, thread_id, row[2])
            if found is None or not _matches(found.metadata, filter):
                continue
            if left is not None:
                left -= 1
            yield found

    async def adelete_thread(self, thread_id: str) -> None:
        async with self._alone(thread_id) as thread:
            await thread.delete()

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        async with self._alone(target_thread_id) as target:
            source = self._thread(source_thread_id)
            index = await _index(source)
            await target.delete()
            for row in index:
                saved = await source.load(round_id=row[2])
                if saved is not None:
                    await target.save(saved.state, round_id=row[2])
            await target.save({"checkpoints": index}, round_id=INDEX)

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Keeps all checkpoints that a delta channel of the latest one may need, which are all."""
        for thread_id in thread_ids:
            async with self._alone(thread_id) as thread:
                if strategy == "delete":
                    await thread.delete()
                    continue
                index = await _index(thread)
                latest: dict[str, list[Any]] = {}
                for row in sorted((row for row in index if row[3]), key=lambda row: str(row[1])):
                    latest[row[0]] = row
                for ns, row in list(latest.items()):
                    newest = await self._load(thread, thread_id, row[2])
                    if newest is not None and "counters_since_delta_snapshot" in newest.metadata:
                        latest.update({f"{ns} {r[1]}": r for r in index if r[0] == ns})
                kept = list(latest.values())
                await thread.save({"checkpoints": kept}, round_id=INDEX)
                for row in index:
                    if row not in kept:
                        await thread.delete(round_id=row[2])

    def get_next_version(self, current: str | None, channel: None) -> str:
        """Returns the next version as LangGraph's own savers do: a rising number, as text that sorts."""
        return f"{int(str(current or 0).split('.')[0]) + 1:032}.0"

    def _dump(self, value: Any) -> list[str]:
        kind, body = self.serde.dumps_typed(value)
        return [kind, b64encode(body).decode()]

    def _read(self, dumped: Sequence[str]) -> Any:
        return self.serde.loads_typed((dumped[0], b64decode(dumped[1])))

    # Blocking methods, for a graph in the thread of a plain function: each call executes on the event loop.

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        return self._call(self.aput(config, checkpoint, metadata, new_versions))

    def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        self._call(self.aput_writes(config, writes, task_id, task_path))

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        return self._call(self.aget_tuple(config))

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        async def collect() -> Sequence[CheckpointTuple]:
            return [found async for found in self.alist(config, filter=filter, before=before, limit=limit)]

        return iter(self._call(collect()))

    def delete_thread(self, thread_id: str) -> None:
        self._call(self.adelete_thread(thread_id))


async def _index(thread: StateAccess) -> list[list[Any]]:
    """Returns the namespace, id and round of each checkpoint, and whether it, or only its writes, exist."""
    saved = await thread.load(round_id=INDEX)
    return [] if saved is None else [list(row) for row in saved.state["checkpoints"]]


def _row(index: Sequence[list[Any]], ns: str, id: str | None) -> list[Any] | None:
    return next((row for row in index if row[:2] == [ns, id]), None)


def _next(index: Sequence[list[Any]]) -> int:
    number: int = max((row[2] for row in index), default=INDEX) + 1
    return number


def _place(config: RunnableConfig) -> tuple[str, str]:
    configurable = config["configurable"]
    return configurable["thread_id"], configurable.get("checkpoint_ns", "")


def _config(thread_id: str, ns: str, id: str) -> RunnableConfig:
    return {"configurable": {"thread_id": thread_id, "checkpoint_ns": ns, "checkpoint_id": id}}


def _matches(metadata: Mapping[str, Any], wanted: Mapping[str, Any] | None) -> bool:
    return all(metadata.get(name) == value for name, value in (wanted or {}).items())
