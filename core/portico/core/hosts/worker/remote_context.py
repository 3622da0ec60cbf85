"""Remote context: the interfaces of a run's `context` in a worker, as calls to the core.

Both sides derive the methods, and which of them stream, from the interfaces themselves.
"""

import asyncio
import inspect
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Mapping
from functools import lru_cache
from typing import Any, cast

from portico.agent import Context, SandboxAccess
from portico.agent.child_runs import RunResult
from portico.agent.context import MemoryAccess, ResultAccess, SessionAccess, StateAccess
from portico.core.hosts.worker.rpc_channel import WorkerChannel
from portico.core.hosts.worker.worker_messages import OfferedRun, RemoteAddress

MAX_CALLS = 256  # most calls of a run at once; further calls wait
INTERFACES: Mapping[str, type] = {
    "state": StateAccess,
    "session": SessionAccess,
    "memory": MemoryAccess,
    "agent_memory": MemoryAccess,
    "results": ResultAccess,
    "sandbox": SandboxAccess,
}


@lru_cache(maxsize=len(INTERFACES))
def streaming_methods(interface: type) -> Mapping[str, bool]:
    """The methods of an interface that can be called remotely, and whether each of them streams."""
    methods = {name: value for name, value in vars(interface).items() if inspect.isfunction(value)}
    return {
        name: not inspect.iscoroutinefunction(method)
        for name, method in methods.items()
        if not name.startswith("_") and name != "part"
    }


class RemoteCalls:
    """The remote calls of one run to the core."""

    def __init__(self, channel: WorkerChannel, run_id: str, before: Callable[[], None]) -> None:
        """Set up the calls; each first calls `before`, which sends the agent's earlier output."""
        self._channel = channel
        self._run_id = run_id
        self._before = before
        self._free = asyncio.Semaphore(MAX_CALLS)

    async def call(self, path: tuple[str, ...], method: str, /, *args: Any, **named: Any) -> Any:
        """Return the result of a method of the interface at `path`."""
        async with self._free:
            self._before()
            return await self._channel.call(method, RemoteAddress(self._run_id, path), *args, **named)

    async def stream(
        self, path: tuple[str, ...], method: str, /, *args: Any, **named: Any
    ) -> AsyncGenerator[Any, None]:
        """Yield the items of a streaming method of the interface at `path`."""
        async with self._free:
            self._before()
            items = self._channel.stream(method, RemoteAddress(self._run_id, path), *args, **named)
            try:
                async for item in items:
                    yield item
            finally:
                await items.aclose()


class RemoteObject:
    """One remote interface of a run."""

    def __init__(self, calls: RemoteCalls, path: tuple[str, ...], offers: "OfferedInterfaces") -> None:
        self._calls = calls
        self._path = path
        self._offers = offers

    def __getattr__(self, name: str) -> Any:
        streams = streaming_methods(INTERFACES[self._path[0]]).get(name)
        if streams is None:
            raise AttributeError(f"context.{self._path[0]} has no {name}")
        if streams:
            return lambda *args, **named: self._calls.stream(self._path, name, *args, **named)
        return lambda *args, **named: self._call(name, *args, **named)

    async def _call(self, name: str, *args: Any, **named: Any) -> Any:
        with self._offers.of((*args, *named.values())) as offered:
            sent = [offered.get(id(value), value) for value in args]
            named = {key: offered.get(id(value), value) for key, value in named.items()}
            return await self._calls.call(self._path, name, *sent, **named)

    def part(self, name: str) -> "StateAccess":
        if self._path[0] != "state":
            raise AttributeError(f"context.{self._path[0]} has no part")
        return cast(StateAccess, RemoteObject(self._calls, (*self._path, name), self._offers))


class RemoteChildRun:
    """ChildRun of a run in a worker."""

    def __init__(self, calls: RemoteCalls, run_id: str) -> None:
        self._calls = calls
        self.run_id = run_id

    async def result(self) -> RunResult:
        return cast(RunResult, await self._calls.call((), "child_result", self.run_id))

    async def cancel(self) -> None:
        await self._calls.call((), "child_cancel", self.run_id)


class OfferedInterfaces:
    """Iterables from which the core may pull items during the call that passes them."""

    def __init__(self) -> None:
        self._iterables: dict[int, AsyncIterable[Any]] = {}

    def of(self, values: tuple[Any, ...]) -> "_Offering":
        """Offer the iterables among these arguments during a `with` block."""
        return _Offering(self._iterables, [value for value in values if hasattr(value, "__aiter__")])

    async def pieces(self, number: int) -> AsyncGenerator[Any, None]:
        """Yield the items of an offered iterable."""
        async for piece in self._iterables[number]:
            yield piece


class _Offering:
    def __init__(self, iterables: dict[int, AsyncIterable[Any]], values: list[AsyncIterable[Any]]) -> None:
        self._iterables = iterables
        self._values = {id(value): value for value in values}

    def __enter__(self) -> Mapping[int, OfferedRun]:
        self._iterables.update(self._values)
        return {number: OfferedRun(number) for number in self._values}

    def __exit__(self, *_: object) -> None:
        for number in self._values:
            self._iterables.pop(number, None)


def resolve_method(context: Context, path: tuple[str, ...], method: str) -> Callable[..., Any]:
    """The method that a remote call names. Raises LookupError."""
    kind, *more = path
    if method not in streaming_methods(INTERFACES[kind]):
        raise LookupError(f"context.{kind} has no {method}")
    if kind == "sandbox":
        return cast(Callable[..., Any], getattr(context.sandbox(*more), method))
    access: Any = getattr(context, kind)
    for name in more:
        access = access.part(name)
    return cast(Callable[..., Any], getattr(access, method))
