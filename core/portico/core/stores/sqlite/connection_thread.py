"""A thread that makes the calls of one database connection."""

import asyncio
import logging
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar

log = logging.getLogger(__name__)

_T = TypeVar("_T")
_Call = Callable[[], None]


class CallThread:
    """Makes calls in order, one at a time.

    Each commit passes a call to this thread and its result back, so that is cheaper here than with an
    executor, whose futures also support waiting threads.
    """

    def __init__(self, name: str) -> None:
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    async def call(self, function: Callable[..., _T], *args: Any) -> _T:
        """Call a function in the thread; return its result or raise its error.

        The function is called even if the caller is cancelled.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[_T] = loop.create_future()

        def work() -> None:
            try:
                result = function(*args)
            except BaseException as error:
                loop.call_soon_threadsafe(_fail, answer, error)
            else:
                loop.call_soon_threadsafe(_resolve, answer, result)

        self._calls.put(work)
        return await answer

    def post(self, function: Callable[[], Any]) -> None:
        """Call a function in the thread without waiting for it. After `close` it is not called."""
        self._calls.put(function)

    def close(self) -> None:
        """Stop the thread. Blocks until all earlier calls have ended."""
        self._calls.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            try:
                call()
            except Exception:
                log.exception("a background call on the database failed")


def _resolve(answer: "asyncio.Future[_T]", result: _T) -> None:
    if not answer.done():
        answer.set_result(result)


def _fail(answer: "asyncio.Future[_T]", error: BaseException) -> None:
    if not answer.done():
        answer.set_exception(error)
