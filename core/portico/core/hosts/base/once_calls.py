"""Functions that a run calls once: their results are stored, and later attempts get them without a call."""

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
from portico.core.hosts.base.function_threads import ThreadSlot, run_in_thread

KEY_CHARACTERS = 256
RESULT_BYTES = 64 * 1024
THREADS = 16  # most plain functions of a run at once

_ACTIVE_CALLS: ContextVar[frozenset[tuple[str, str]]] = ContextVar("once", default=frozenset())


class OnceCalls:
    """Implements `context.once` for one run, in the core's process and in workers."""

    def __init__(self, run_id: str, results: ResultAccess) -> None:
        self._run_id = run_id
        self._results = results
        self._under_way: dict[str, asyncio.Future[bytes]] = {}
        self._threads: asyncio.Semaphore | None = None

    async def __call__(self, key: str, function: Callable[..., Any]) -> Any:
        if not 0 < len(key) <= KEY_CHARACTERS:
            raise ValueError(f"a key of once() has 1 to {KEY_CHARACTERS} characters, not {len(key)}")
        if (self._run_id, key) in _ACTIVE_CALLS.get():
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
                future.exception()  # mark it as retrieved: there may be no other waiter
            raise
        finally:
            future.cancel()  # a waiter then makes the call itself
            del self._under_way[key]

    async def _made(self, key: str, function: Callable[..., Any]) -> bytes:
        """Call the function and store its result."""
        token = _ACTIVE_CALLS.set(_ACTIVE_CALLS.get() | {(self._run_id, key)})
        try:
            value, stopped = await self._call(_bound(function, self._run_id, key))
        finally:
            _ACTIVE_CALLS.reset(token)
        try:
            result = orjson.dumps(value)
        except TypeError as error:
            raise TypeError(f"the result of once({key!r}) is not JSON: {error}") from None
        if len(result) > RESULT_BYTES:
            problem = f"the result of once({key!r}) has {len(result)} bytes of JSON, more than {RESULT_BYTES}"
            raise LimitExceeded("once_result", problem)
        await self._results.keep(key, result)
        if stopped:
            raise asyncio.CancelledError
        return result

    async def _call(self, call: Callable[[], Any]) -> tuple[Any, bool]:
        """Call the function.

        Returns:
            Its result, and whether the call of a plain function was cancelled meanwhile. A thread cannot be
                stopped, so its result is awaited and stored.
        """
        target = call.func if isinstance(call, partial) else call
        if inspect.iscoroutinefunction(target):
            return await call(), False
        if self._threads is None:
            self._threads = asyncio.Semaphore(THREADS)
        task = asyncio.current_task()
        assert task is not None
        before = task.cancelling()
        value = await run_in_thread(call, ThreadSlot(self._threads), lambda: True)
        stopped = task.cancelling() > before
        if not inspect.isawaitable(value):
            return value, stopped
        waiting = asyncio.ensure_future(value)
        if stopped:
            waiting.cancel()
        return await waiting, False


def _bound(function: Callable[..., Any], run_id: str, key: str) -> Callable[[], Any]:
    """Bind the argument `idempotency_key`, the same in every attempt, if the function has that parameter."""
    try:
        names = inspect.signature(function).parameters
    except ValueError:
        return function  # some builtin functions have no signature
    if "idempotency_key" not in names:
        return function
    digest = hashlib.blake2b(f"{run_id}\0{key}".encode(), digest_size=16).hexdigest()
    return partial(function, idempotency_key=f"once_{digest}")
