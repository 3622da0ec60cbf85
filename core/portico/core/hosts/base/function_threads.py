"""Authors' plain functions: each runs in a thread of its own, with a limited number at once."""

import asyncio
import contextvars
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import asynccontextmanager
from typing import Any

MAX_BUFFERED_ITEMS = 256  # most items that a generator in a thread may be ahead of the event loop

_SLOT: contextvars.ContextVar["ThreadSlot | None"] = contextvars.ContextVar("slot", default=None)


class ThreadSlot:
    """Permission for one plain function to run in a thread. Belongs to the event loop."""

    def __init__(self, free: asyncio.Semaphore) -> None:
        self._free = free
        self._held = False

    async def take(self) -> None:
        """Wait for a free slot and hold it."""
        await self._free.acquire()
        self._held = True

    def give_back(self) -> bool:
        """Release the slot. Returns whether it was held."""
        held, self._held = self._held, False
        if held:
            self._free.release()
        return held

    def of_this_run(self) -> "ThreadSlot":
        """Make this the slot that `lend_slot` lends in the current task and in tasks that it starts."""
        _SLOT.set(self)
        return self


@asynccontextmanager
async def lend_slot() -> AsyncIterator[None]:
    """Release the run's slot while the run waits for an answer, so that other functions can use it.

    After an exception the function continues at once, without the slot, to clean up.
    """
    slot = _SLOT.get()
    lent = slot is not None and slot.give_back()
    yield
    if slot is not None and lent:
        await slot.take()


def never_patient() -> bool:
    return False


async def run_in_thread(
    function: Callable[[], Any], slot: ThreadSlot, patient: Callable[[], bool] = never_patient
) -> Any:
    """Run a function in a thread of its own, once the slot is free.

    Args:
        function: The function. If the caller is cancelled before the slot is free, it is never called.
        slot: Held while the function runs.
        patient: A caller that is cancelled later waits until the function has returned. If `patient()` is
            true by then, it gets the result.

    Raises:
        asyncio.CancelledError: The caller was cancelled and `patient()` is false.
    """
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
            result = function()
        except BaseException as caught:
            # A future does not accept StopIteration.
            error = RuntimeError("StopIteration") if isinstance(caught, StopIteration) else caught
        try:
            loop.call_soon_threadsafe(deliver, result, error)
        except RuntimeError:
            pass  # the loop has closed, so no caller waits

    await slot.take()
    try:
        # A daemon thread: a function that never returns must not prevent the process from ending.
        threading.Thread(target=contextvars.copy_context().run, args=(work,), daemon=True).start()
        cancelled = await _ended(done)
    finally:
        slot.give_back()
    if cancelled and not patient():
        done.exception()  # mark the exception as retrieved: the cancellation replaces it
        raise asyncio.CancelledError
    return done.result()


async def _ended(done: asyncio.Future[Any]) -> bool:
    """Wait until the future is done, despite cancellations. Returns whether there was one."""
    cancelled = False
    while not done.done():
        try:
            await asyncio.wait({done})
        except asyncio.CancelledError:
            cancelled = True
    return cancelled


class ThreadedGenerator:
    """A plain generator that runs in a thread and is read on the loop; it is at most AHEAD items ahead.

    A reader that is cancelled gets CancelledError, unless `patient()` is true and the generator has begun:
    then it reads the generator to its end.
    """

    def __init__(
        self,
        start: Callable[[], Generator[Any, Any, Any]],
        slot: ThreadSlot,
        patient: Callable[[], bool] = never_patient,
    ) -> None:
        self._start = start
        self._patient = patient
        self._items: deque[Any] = deque()
        self._room = threading.Semaphore(MAX_BUFFERED_ITEMS)
        self._begun = False
        self._stopping = threading.Event()
        self._answers: deque[Any] = deque()
        self._answered = threading.Semaphore(0)
        self._arrived = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._over = False
        self._thread = asyncio.create_task(self._watch(slot))
        self._error: BaseException | None = None

    async def _watch(self, slot: ThreadSlot) -> None:
        try:
            await run_in_thread(self._work, slot)
        except BaseException as error:
            # Includes SystemExit: an agent that calls sys.exit() ends its run, not the core.
            self._error = error
        finally:
            self._over = True
            self._arrived.set()

    def _work(self) -> None:
        self._begun = True
        generator = self._start()
        answer: Any = None
        try:
            while not self._stopping.is_set():
                # An exception as the answer means that there will be none.
                step = generator.throw if isinstance(answer, BaseException) else generator.send
                try:
                    item = step(answer)
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
        # Checked after the append: the loop may have taken all earlier items meanwhile.
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
                try:
                    await self._arrived.wait()
                except asyncio.CancelledError:
                    if not (self._begun and self._patient()):
                        raise
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
        """Raise the error at the generator's question; close the generator for an impatient reader."""
        if self._patient() or not isinstance(error, asyncio.CancelledError):
            return await self.asend(error)
        await self.aclose()
        raise error

    async def aclose(self) -> None:
        """Return when the generator's clean-up has ended."""
        self._stopping.set()
        self._room.release(MAX_BUFFERED_ITEMS)
        self._answered.release()
        self._thread.cancel()  # has an effect only while it waits for its slot
        if await _ended(self._thread):
            raise asyncio.CancelledError
