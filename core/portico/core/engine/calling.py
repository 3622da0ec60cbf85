"""Calls an author's function, of whatever kind, with the arguments that it names."""

import asyncio
import contextvars
import inspect
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

AHEAD = 256  # items that a generator in a thread may be ahead of the event loop
_SLOTS = threading.BoundedSemaphore(256)  # threads of plain functions at once


def bind(function: Callable[..., Any], offered: Mapping[str, Any]) -> Callable[[], Any]:
    """The call of a function with those of the offered arguments that it takes, by name.

    A first parameter named app, agent or runner gets what is offered as `self`.
    Raises TypeError when a required parameter is not on offer.
    """
    plan = _plan(function)
    positional: list[Any] = []
    named: dict[str, Any] = {}
    for place, (name, positional_only, required) in enumerate(plan.parameters):
        if name in offered:
            if positional_only:
                positional.append(offered[name])
            else:
                named[name] = offered[name]
        elif required:
            if place == 0 and "self" in offered and name in ("self", "app", "agent", "runner"):
                positional.append(offered["self"])
                continue
            raise TypeError(f"{function.__name__}() wants {name!r}; it can have {sorted(offered)}")
    if plan.takes_all:
        named.update({name: value for name, value in offered.items() if name != "self" and name not in named})
    return partial(function, *positional, **named)


@dataclass(frozen=True, slots=True)
class _Plan:
    parameters: Sequence[tuple[str, bool, bool]]  # name, positional only, required
    takes_all: bool


@lru_cache(maxsize=1024)
def _plan(function: Callable[..., Any]) -> _Plan:
    """A function's signature, read once: that costs as much as a whole short run."""
    parameters = inspect.signature(function).parameters.values()
    return _Plan(
        [
            (
                parameter.name,
                parameter.kind is parameter.POSITIONAL_ONLY,
                parameter.default is parameter.empty,
            )
            for parameter in parameters
            if parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
        ],
        any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters),
    )


async def call(function: Callable[[], Any]) -> Any:
    """The result of a coroutine function on the loop, or of a plain one in a thread."""
    target = function.func if isinstance(function, partial) else function
    if inspect.iscoroutinefunction(target):
        return await function()
    result = await in_thread(function)
    return await result if inspect.isawaitable(result) else result


async def in_thread(function: Callable[[], Any]) -> Any:
    """Run it in a thread of its own. A cancelled caller waits until the function has returned."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Any] = loop.create_future()

    def deliver(result: Any, error: BaseException | None) -> None:
        if not done.done():
            if error is not None:
                done.set_exception(error)
            else:
                done.set_result(result)

    def work() -> None:
        result, error = None, None
        try:
            with _SLOTS:
                result = function()
        except BaseException as caught:
            # StopIteration can't be set on a future.
            error = RuntimeError("StopIteration") if isinstance(caught, StopIteration) else caught
        try:
            loop.call_soon_threadsafe(deliver, result, error)
        except RuntimeError:
            pass  # the loop has closed; nobody waits any more

    # A daemon: a function that never returns must not keep the process from ending.
    threading.Thread(target=contextvars.copy_context().run, args=(work,), daemon=True).start()
    await _whole(done)
    return done.result()


async def _whole(done: asyncio.Future[Any]) -> None:
    """Wait until it is done, even if cancelled meanwhile; then raise CancelledError."""
    cancelled = False
    while not done.done():
        try:
            await asyncio.wait({done})
        except asyncio.CancelledError:
            cancelled = True
    if cancelled:
        if not done.cancelled():
            done.exception()  # it is not news any more
        raise asyncio.CancelledError


class ThreadedGenerator:
    """A plain generator, run in a thread, read on the loop; it is never far ahead."""

    def __init__(self, start: Callable[[], Generator[Any, Any, Any]]) -> None:
        self._start = start
        self._items: deque[Any] = deque()
        self._room = threading.Semaphore(AHEAD)
        self._stopping = threading.Event()
        self._answers: deque[Any] = deque()
        self._answered = threading.Semaphore(0)
        self._arrived = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._over = False
        self._thread = asyncio.create_task(self._watch())
        self._error: BaseException | None = None

    async def _watch(self) -> None:
        try:
            await in_thread(self._work)
        except BaseException as error:
            # Also SystemExit: an agent that calls sys.exit() ends its run, not the core.
            self._error = error
        finally:
            self._over = True
            self._arrived.set()

    def _work(self) -> None:
        generator = self._start()
        answer: Any = None
        try:
            while not self._stopping.is_set():
                try:
                    item = generator.send(answer)
                except StopIteration as stop:
                    if stop.value is not None:
                        self._put(stop.value)
                    return
                answer = None
                self._put(item)
                if getattr(item, "wants_answer", False):
                    self._answered.acquire()
                    if not self._stopping.is_set():
                        answer = self._answers.popleft()
        finally:
            generator.close()

    def _put(self, item: Any) -> None:
        self._room.acquire()
        self._items.append(item)
        # Looked at after the append: the loop may have taken all that was there before.
        if len(self._items) <= 1:
            self._loop.call_soon_threadsafe(self._arrived.set)

    async def __anext__(self) -> Any:
        while not self._items:
            if self._over:
                if self._error is not None:
                    raise self._error
                raise StopAsyncIteration
            self._arrived.clear()
            if not self._items and not self._over:
                await self._arrived.wait()
        item = self._items.popleft()
        self._room.release()
        return item

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def asend(self, answer: Any) -> Any:
        self._answers.append(answer)
        self._answered.release()
        return await self.__anext__()

    async def athrow(self, error: BaseException) -> Any:
        """A thread can't be thrown into: the generator is closed where it stands."""
        await self.aclose()
        raise error

    async def aclose(self) -> None:
        """Return when the generator's clean-up has ended."""
        self._stopping.set()
        self._room.release(AHEAD)
        self._answered.release()
        await _whole(self._thread)
