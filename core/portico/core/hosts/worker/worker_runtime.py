"""Worker runtime: serves the runs and endpoints of one agent to the core, inside the worker process."""

import asyncio
import socket
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextvars import Context as Variables
from typing import Any, cast

import orjson
from opentelemetry import context as tracing

from portico.agent import (
    AgentApp,
    AgentError,
    CallDelta,
    Context,
    InputRequest,
    Message,
    SandboxAccess,
    Usage,
)
from portico.agent.adapter_detection import is_portico_item
from portico.agent.child_runs import ChildRequest
from portico.agent.context import MemoryAccess, ResultAccess, SessionAccess, StateAccess
from portico.core.errors import EndpointFailed
from portico.core.hosts.base.agent_errors import unsupported_item_error
from portico.core.hosts.base.agent_host import AgentHost, AgentStartFailed
from portico.core.hosts.base.error_disclosure import ErrorDisclosure
from portico.core.hosts.base.function_threads import lend_slot
from portico.core.hosts.base.once_calls import OnceCalls
from portico.core.hosts.worker.codec import encode
from portico.core.hosts.worker.flow_control import WINDOW_ITEMS, Item, window_cost
from portico.core.hosts.worker.remote_context import (
    OfferedInterfaces,
    RemoteCalls,
    RemoteChildRun,
    RemoteObject,
)
from portico.core.hosts.worker.rpc_channel import ServedCall, WorkerChannel
from portico.core.hosts.worker.worker_messages import ExecuteRun
from portico.telemetry.log import log_ids
from portico.telemetry.metrics.loop_watch import LoopWatch
from portico.telemetry.tracing import spans

_BUDGETED_ITEMS = (Message, CallDelta, Usage)  # items that may count against a budget


async def serve(
    host: AgentHost, app: AgentApp, there: socket.socket, words: ErrorDisclosure | None = None
) -> None:
    """Serve the core at the other end of the socket until it is gone."""
    watch = LoopWatch()
    watch.start()
    loop = asyncio.get_running_loop()
    _, channel = await loop.create_unix_connection(
        lambda: WorkerChannel(lambda end: WorkerRuntime(host, app, end, words or ErrorDisclosure())),
        sock=there,
    )
    await channel.closed
    await cast(WorkerRuntime, channel.service).on_core_lost()
    watch.stop()


class WorkerRuntime:
    """Service of a worker process."""

    def __init__(
        self, host: AgentHost, app: AgentApp, channel: WorkerChannel, words: ErrorDisclosure
    ) -> None:
        self._words = words
        self._app = app
        self._channel = channel
        self._host = host
        self._runs: dict[str, _Run] = {}
        self._offers = OfferedInterfaces()

    def serve(
        self, method: str, args: tuple[Any, ...], named: dict[str, Any]
    ) -> tuple[ServedCall, Variables | None]:
        match method:
            case "execute":
                run = _Run(self._channel, args[0], self._offers)
                self._runs[run.order.run_id] = run
                return self._execute(run), None
            case "call_endpoint":
                return self._call_endpoint(*args), None
            case "stream_endpoint":
                return self._stream_endpoint(*args), None
            case "pieces":
                return self._offers.pieces(*args), None
            case "start":
                return self._start(), None
            case "stop":
                return self._host.stop(), None
        raise LookupError(method)

    def note(self, method: str, args: tuple[Any, ...]) -> None:
        run_id, *rest = args
        run = self._runs.get(run_id)
        if run is None:
            return  # the run has ended
        if method == "stop":
            run.stop(*rest)
        else:
            run.sink.acknowledge(*rest)

    async def on_core_lost(self) -> None:
        """Cancel all runs: the core is gone."""
        tasks = [run.task for run in self._runs.values() if run.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _start(self) -> None:
        """Initialise the agent. Raises AgentError, which names the exception of its init function."""
        try:
            await self._host.start()
        except AgentStartFailed as error:
            cause = error.__cause__ or error
            told = self._words.text_for_caller(cause, "the init function of agent %r raised", self._app.name)
            raise AgentError(f"the agent's init function raised {type(cause).__name__}: {told}") from None

    async def _execute(self, run: "_Run") -> bool:
        """Execute a run. Returns whether it ended by itself, without a cancellation."""
        order = run.order
        log_ids.run_id.set(order.run_id)
        tracing.attach(spans.parent_of(order.trace))
        run.task = asyncio.current_task()
        try:
            if run.stopped:
                return False
            await self._host.execute(self._app, run.context, run.sink)
        except asyncio.CancelledError:
            return False
        except BaseException as error:
            raise self._words.status_and_error(
                error, self._app.name, order.run_id, stopping=run.stopped
            ) from None
        finally:
            run.sink.flush()
            self._runs.pop(order.run_id, None)
        return True

    async def _call_endpoint(self, path: str, body: Any) -> bytes:
        return _json(await self._host.call_endpoint(self._app, path, body))

    async def _stream_endpoint(self, path: str, body: Any) -> AsyncGenerator[bytes, None]:
        items = cast(AsyncGenerator[Any, None], self._host.stream_endpoint(self._app, path, body))
        try:
            async for item in items:
                yield _json(item)
        finally:
            await items.aclose()


class _Run:
    """An executing run. All its lasting state is in the core."""

    def __init__(self, channel: WorkerChannel, order: ExecuteRun, offers: OfferedInterfaces) -> None:
        self.order = order
        self.task: asyncio.Task[Any] | None = None
        self.stopped = False
        self._asker: asyncio.Task[Any] | None = None
        self.sink = RemoteSink(channel, order.run_id)
        self._calls = calls = RemoteCalls(channel, order.run_id, self.sink.flush)

        def far(*path: str) -> Any:
            return RemoteObject(calls, path, offers)

        results = cast(ResultAccess, far("results"))
        self.context = Context(
            run_id=order.run_id,
            request=order.request,
            attempt=order.attempt,
            state=cast(StateAccess, far("state")),
            session=cast(SessionAccess, far("session")),
            memory=cast(MemoryAccess, far("memory")),
            agent_memory=cast(MemoryAccess, far("agent_memory")),
            ask=self._ask,
            take_input=self._take_input,
            loop=asyncio.get_running_loop(),
            results=results,
            once=OnceCalls(order.run_id, results),
            sandboxes=lambda kind: cast(SandboxAccess, far("sandbox", kind)),
            start_run=self._start_run,
        )

    def stop(self, cancelled: bool, interrupted: bool, restarting: bool, metadata: Mapping[str, Any]) -> None:
        """Ask the agent to stop; the core may ask again with a stronger reason."""
        self.stopped = True
        for wanted, interrupt in ((interrupted, True), (cancelled, False)):
            if wanted:
                self.context.stop(interrupt=interrupt, metadata=metadata, restarting=restarting)
        # The task that asks a question may differ from the agent's task, for example on behalf of a thread.
        for task in {self.task, self._asker}:
            if task is not None:
                task.cancel()

    async def _ask(self, request: InputRequest) -> Sequence[Message]:
        self._asker = asyncio.current_task()
        try:
            async with lend_slot():
                question = (request.id, request.prompt, request.schema, request.kind)
                return cast(Sequence[Message], await self._calls.call((), "ask", *question))
        finally:
            self._asker = None

    async def _start_run(self, request: ChildRequest) -> RemoteChildRun:
        return RemoteChildRun(self._calls, await self._calls.call((), "start_run", request))

    async def _take_input(self) -> Sequence[Message]:
        return cast(Sequence[Message], await self._calls.call((), "new_input"))


class RemoteSink:
    """Sends the items that the agent yields to the core; items yielded at once share a frame."""

    def __init__(self, channel: WorkerChannel, run_id: str) -> None:
        self._channel = channel
        self._run_id = run_id
        self._items: list[Item] = []
        self._ahead = 0
        self._counted = False  # unacknowledged items may exceed the run's budget
        self._moved = asyncio.Event()

    @property
    def needs_drain(self) -> bool:
        """Whether the window is used up, or unacknowledged items may exceed the budget."""
        return self._counted or self._ahead >= WINDOW_ITEMS

    async def drain(self) -> None:
        """Return when the core has acknowledged enough items; all of them, if they may exceed a budget."""
        while self.needs_drain:
            self._moved.clear()
            await self._moved.wait()

    def acknowledge(self, units: int) -> None:
        """Handle the core's acknowledgement of units of the window."""
        self._ahead -= units
        self._counted = self._counted and self._ahead > 0
        self._moved.set()

    def emit(self, item: object) -> None:
        """Send an item. Raises TypeError, as the core's sink does."""
        if type(item) is str:
            told: Item = item
        elif is_portico_item(item) and not isinstance(item, str):
            told = encode(item)
            self._counted = self._counted or isinstance(item, _BUDGETED_ITEMS)
        elif isinstance(item, Mapping):
            told = encode(dict(item))
            self._counted = True  # it may be any item
        elif isinstance(item, str):
            told = str(item)
        else:
            raise unsupported_item_error(item)
        if not self._items:
            asyncio.get_running_loop().call_soon(self.flush)
        self._items.append(told)
        self._ahead += window_cost((told,))

    def flush(self) -> None:
        """Send the buffered items; called before any other message, to keep the order."""
        if self._items:
            items, self._items = self._items, []
            self._channel.send_notification("said", self._run_id, items, self._counted)


def _json(value: Any) -> bytes:
    try:
        return orjson.dumps(value)
    except (TypeError, ValueError) as error:
        raise EndpointFailed(f"the result is not JSON: {error}", error_type=type(error).__name__) from None
