"""The kernel's asyncio event loop: created by the first cell that needs it; it also runs between cells."""

import _thread
import os
import sys
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from . import tracebacks

if TYPE_CHECKING:
    import asyncio


class KernelLoop:
    """Created once a cell mentions asyncio or has a top-level `await`."""

    def __init__(self) -> None:
        import asyncio  # only here: most kernels never need it

        self._asyncio = asyncio
        self._loop = asyncio.new_event_loop()
        self._thread = _thread.get_ident()
        self._resting = False
        os.register_at_fork(after_in_child=self._forked)
        self._create_task = asyncio.create_task
        asyncio.create_task = asyncio.tasks.create_task = self._task  # type: ignore[assignment]

    def current(self) -> None:
        """Makes it the thread's event loop again: asyncio.run() in a cell removes it, and a cell may close
        it."""
        if self._loop.is_closed():
            self._loop = self._asyncio.new_event_loop()
        self._asyncio.set_event_loop(self._loop)

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Runs a coroutine to its end; an interrupt cancels it first."""
        task = self._loop.create_task(work)
        try:
            return self._loop.run_until_complete(task)
        except KeyboardInterrupt as interrupt:
            if task.done():
                raise
            task.cancel()
            try:
                self._loop.run_until_complete(task)
            except self._asyncio.CancelledError as cancelled:  # its traceback shows where in the cell it was
                raise interrupt.with_traceback(cancelled.__traceback__) from None
            raise

    def rest(self, control: int) -> None:
        """Runs tasks until the descriptor is readable."""
        owner = os.getpid()
        if self._loop.is_closed():
            return
        self._loop.add_reader(control, self._loop.stop)
        self._resting = True
        try:
            self._loop.run_forever()
        except KeyboardInterrupt:
            pass  # a task delayed the next cell
        except BaseException as problem:  # a SystemExit in a task ends only the task
            print(tracebacks.describe(problem)["traceback"], end="", file=sys.stderr)
        finally:
            self._resting = False
            if os.getpid() != owner:
                os._exit(0)  # in a process that a task has forked
            if not self._loop.is_closed():
                self._loop.remove_reader(control)

    def _forked(self) -> None:
        """In a child forked by a task between cells: lets only that task go on, until it waits."""
        if self._resting:
            self._loop.stop()

    def _task(self, work: Coroutine[Any, Any, Any], **options: Any) -> "asyncio.Task[Any]":
        """asyncio.create_task, which in a cell without `await` also creates a task of this loop."""
        try:
            self._asyncio.get_running_loop()
        except RuntimeError:
            if _thread.get_ident() == self._thread:
                return self._loop.create_task(work, **options)
        make: Callable[..., asyncio.Task[Any]] = self._create_task
        return make(work, **options)
