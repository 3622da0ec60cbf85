"""Functions that a run calls once: what they gave is kept, and later attempts get it without a call."""

import asyncio
import hashlib
import inspect
from collections.abc import Callable
from contextvars import ContextVar
from functools import partial
from typing import Any

import orjson

from portico.agent.context import ResultAccess
from portico.core.errors import LimitExceeded
from portico.core.hosts.base.function_threads import Slot, in_thread

KEY_CHARACTERS = 256
RESULT_BYTES = 64 * 1024
THREADS = 16  # plain functions of a run at once

_UNDER_WAY: ContextVar[frozenset[tuple[str, str]]] = ContextVar("once", default=frozenset())


class Once:
    """`context.once` of one run, wherever its agent is."""

    def __init__(self, run_id: str, results: ResultAccess) -> None:
        self._run_id = run_id
        self._results = results
        self._under_way: dict[str, asyncio.Future[bytes]] = {}
        self._threads: asyncio.Semaphore | None = None

    async def __call__(self, key: str, function: Callable[..., Any]) -> Any:
        if not 0 < len(key) <= KEY_CHARACTERS:
            raise ValueError(f"a key of once() has 1 to {KEY_CHARACTERS} characters, not {len(key)}")
        if (self._run_id, key) in _UNDER_WAY.get():
            raise RuntimeError(f"once({key!r}) is called by its own function")
        while (other := self._under_way.get(key)) is not None:
            await asyncio.wait({other})
            if not other.cancelled():
                return orjson.loads(other.result())
        self._under_way[key] = future = asyncio.get_running_loop().create_future()
        try:
            result = await self._results.load(key)
            if result is None:
                result = await self._made(key, function)
            future.set_result(result)
            return orjson.loads(result)
        except Exception as error:
            if not future.done():
                future.set_exception(error)
                future.exception()  # perhaps nobody else waits for it
            raise
        finally:
            future.cancel()  # whoever waits for it takes its place
            del self._under_way[key]

    async def _made(self, key: str, function: Callable[..., Any]) -> bytes:
        """Call the function, and keep what it gives."""
        token = _UNDER_WAY.set(_UNDER_WAY.get() | {(self._run_id, key)})
        try:
            value, stopped = await self._call(_bound(function, self._run_id, key))
        finally:
            _UNDER_WAY.reset(token)
        try:
            result = orjson.dumps(value)
        except TypeError as error:
            raise TypeError(f"the result of once({key!r}) is no JSON: {error}") from None
        if len(result) > RESULT_BYTES:
            problem = f"the result of once({key!r}) has {len(result)} bytes of JSON; {RESULT_BYTES} are kept"
            raise LimitExceeded("once_result", problem)
        await self._results.keep(key, result)
        if stopped:
            raise asyncio.CancelledError
        return result

    async def _call(self, call: Callable[[], Any]) -> tuple[Any, bool]:
        """What the function gives, and whether somebody cancelled the call of a plain one meanwhile: a thread
        can't be stopped, so its result is waited for and kept."""
        target = call.func if isinstance(call, partial) else call
        if inspect.iscoroutinefunction(target):
            return await call(), False
        if self._threads is None:
            self._threads = asyncio.Semaphore(THREADS)
        task = asyncio.current_task()
        assert task is not None
        before = task.cancelling()
        value = await in_thread(call, Slot(self._threads), lambda: True)
        stopped = task.cancelling() > before
        if not inspect.isawaitable(value):
            return value, stopped
        waiting = asyncio.ensure_future(value)
        if stopped:
            waiting.cancel()
        return await waiting, False


def _bound(function: Callable[..., Any], run_id: str, key: str) -> Callable[[], Any]:
    """With the idempotency key, which is the same in every attempt, if the function names it."""
    try:
        names = inspect.signature(function).parameters
    except ValueError:
        return function  # some builtin functions do not tell
    if "idempotency_key" not in names:
        return function
    digest = hashlib.blake2b(f"{run_id}\0{key}".encode(), digest_size=16).hexdigest()
    return partial(function, idempotency_key=f"once_{digest}")
