"""Remote run: the core's half of a run that executes in a worker."""

import asyncio
import contextvars
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Coroutine, Sequence
from typing import Any

from portico.agent import ChildRun, Context, InputRequest
from portico.agent.child_runs import ChildRequest
from portico.core.hosts.base.agent_host import RunSink
from portico.core.hosts.worker.codec import decode
from portico.core.hosts.worker.flow_control import WINDOW_ITEMS, Item, window_cost
from portico.core.hosts.worker.remote_context import MAX_CALLS, resolve_method
from portico.core.hosts.worker.rpc_channel import ServedCall, WorkerChannel
from portico.core.hosts.worker.worker_messages import ExecuteRun, OfferedRun
from portico.telemetry.tracing import spans


class RemoteRun:
    """Serves a run's context to its worker, and passes the agent's output on to the run."""

    def __init__(
        self,
        channel: WorkerChannel,
        context: Context,
        sink: RunSink,
        overdue: Callable[[], asyncio.TimerHandle],
    ) -> None:
        """Create it; `overdue` starts the timer within which an agent must stop."""
        self.order = ExecuteRun(context.run_id, context.request, context.attempt, spans.headers_of())
        self.where = contextvars.copy_context()  # for its calls: the run's ids and span
        self.problem: BaseException | None = None  # raised by the sink for the agent's output
        self._channel = channel
        self._context = context
        self._sink = sink
        self._set_overdue = overdue
        self._overdue: asyncio.TimerHandle | None = None
        self._taken = 0  # used units of its flow-control window
        self._making_room: asyncio.Task[None] | None = None
        self._calls: set[asyncio.Task[Any]] = set()
        self._children: dict[str, ChildRun] = {}
        self._told = asyncio.Event()  # set once the agent was asked to stop

    def stop(self) -> None:
        """Ask the agent to stop, with the present reason in its context."""
        context = self._context
        metadata = dict(context.cancel_metadata)
        flags = (context.cancelled, context.interrupted, context.restarting)
        self._channel.send_notification("stop", context.run_id, *flags, metadata)
        self._told.set()
        # An interrupted agent has no time limit for its final output.
        if self._overdue is None and (context.cancelled or not context.interrupted):
            self._overdue = self._set_overdue()

    def receive_items(self, items: Sequence[Item], waits: bool) -> None:
        """Pass on items of the agent; an item that is refused ends the run.

        Args:
            items: The items.
            waits: The agent waits for their acknowledgement.
        """
        if self.problem is not None:
            return
        try:
            for item in items:
                self._sink.emit(item if type(item) is str else decode(item))  # type: ignore[arg-type]
        except (Exception, asyncio.CancelledError) as error:
            self.problem = error
            self.stop()
            return
        self._taken += window_cost(items)
        if (waits or self._taken >= WINDOW_ITEMS // 2) and self._making_room is None:
            if self._sink.needs_drain:
                self._making_room = asyncio.create_task(self._make_room())
            else:
                self._give_room()

    async def _make_room(self) -> None:
        await self._sink.drain()
        self._making_room = None
        self._give_room()

    def _give_room(self) -> None:
        self._channel.send_notification("passed_on", self._context.run_id, self._taken)
        self._taken = 0

    def serve(
        self, path: tuple[str, ...], method: str, args: tuple[Any, ...], named: dict[str, Any]
    ) -> ServedCall:
        """Begin a call of the agent to its context. Raises LookupError."""
        if not path:
            return self._kept(self._own(method, *args))
        given = [self._pieces(value) for value in args]
        named = {key: self._pieces(value) for key, value in named.items()}
        made = resolve_method(self._context, path, method)(*given, **named)
        if hasattr(made, "__anext__"):
            return self._kept_stream(made)
        return self._kept(self._once_cancelled(made) if path[0] == "sandbox" else made)

    async def _own(self, method: str, *args: Any) -> Any:
        """Call a method of the context itself."""
        match method, args:
            case "ask", (id, prompt, schema, kind):
                question = InputRequest(self._context, prompt, schema, kind)
                question.id = id
                return await self._context.ask(question)
            case "new_input", ():
                return await self._context.new_input()
            case "start_run", (ChildRequest() as asked,):
                child = await self._context.start_run(
                    asked.input,
                    agent_name=asked.agent_name,
                    session_id=asked.session_id,
                    metadata=asked.metadata,
                    budget=asked.budget,
                )
                self._children[child.run_id] = child
                return child.run_id
            case "child_result", (run_id,):
                return await self._children[run_id].result()
            case "child_cancel", (run_id,):
                return await self._children[run_id].cancel()
        raise LookupError(f"context has no {method}")

    def _pieces(self, value: Any) -> Any:
        if not isinstance(value, OfferedRun):
            return value
        pieces: AsyncIterable[Any] = self._channel.stream("pieces", value.number)
        return pieces

    async def _kept(self, work: Any) -> Any:
        task = asyncio.current_task()
        assert task is not None
        if len(self._calls) >= MAX_CALLS:
            work.close()
            raise RuntimeError(f"a run may have at most {MAX_CALLS} calls at once")
        self._calls.add(task)
        try:
            return await work
        except BaseException:
            if self._stopping:
                # The agent must learn of the stop from the stop message, and only once.
                await self._told.wait()
            raise
        finally:
            self._calls.discard(task)

    async def _kept_stream(self, items: AsyncGenerator[Any, None]) -> AsyncGenerator[Any, None]:
        async def step() -> Any:
            return await anext(items)

        try:
            while True:
                try:
                    item = await self._once_cancelled(step())
                except StopAsyncIteration:
                    return
                yield item
        finally:
            await items.aclose()

    async def _once_cancelled(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Await a sandbox call, which stopping the run has cancelled already.

        The agent then cancels it too, which only waits: a second cancellation would make the sandbox hasty.
        """
        task = asyncio.create_task(work)
        while not task.done():
            try:
                await asyncio.wait({task})
            except asyncio.CancelledError:
                if not self._stopping:
                    task.cancel()
        return task.result()

    @property
    def _stopping(self) -> bool:
        return self._context.cancelled or self._context.interrupted

    async def close(self) -> None:
        """Return when no call of the run is left."""
        if self._overdue is not None:
            self._overdue.cancel()
        self._told.set()  # the agent has ended
        left = [*self._calls]
        if self._making_room is not None:
            left.append(self._making_room)
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left)
