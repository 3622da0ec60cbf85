"""Worker handle: one worker process as the core sees it, from its start to its end."""

import asyncio
import socket
from collections.abc import AsyncGenerator
from contextvars import Context as Variables
from functools import partial
from typing import Any

import orjson

from portico.agent import AgentApp, AgentError, Context, Workers
from portico.core.errors import EndpointFailed
from portico.core.hosts.base.agent_host import RunSink
from portico.core.hosts.base.error_disclosure import ErrorDisclosure
from portico.core.hosts.worker.remote_run import RemoteRun
from portico.core.hosts.worker.rpc_channel import ChannelClosed, ServedCall, WorkerChannel
from portico.core.hosts.worker.worker_messages import RemoteAddress
from portico.core.hosts.worker.worker_process import StartProcess, WorkerProcess

AGENT_CRASHED_CODE = "agent_crashed"
MEMORY_CHECK_SECONDS = 0.5  # between two checks of its memory
EXIT_GRACE_SECONDS = 1.0  # time for a process to end after it has closed its socket
SHUTDOWN_SECONDS = 10.0  # time for the agent's shutdown function


class WorkerHandle:
    """A process that executes one agent. Owned by its pool, on the event loop."""

    def __init__(self, app: AgentApp, limits: Workers) -> None:
        self.ended: asyncio.Task[None]  # done when no process of it is left
        self.fate = ""  # how it ended, for messages
        self._app = app
        self._limits = limits
        self._runs: dict[str, RemoteRun] = {}
        self._working = 0
        self._begun = 0  # runs
        # Done when it gets no more runs.
        self.spent: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._idle = asyncio.Event()
        self._idle.set()
        self._verdict = ""
        self._process: WorkerProcess
        self._channel: WorkerChannel

    @classmethod
    async def started(
        cls, app: AgentApp, limits: Workers, launch: StartProcess, words: ErrorDisclosure
    ) -> "WorkerHandle":
        """Start a worker; return it once its agent is initialised.

        Raises:
            AgentError: It could not be started; no process of it is left.
        """
        worker = cls(app, limits)
        here, there = socket.socketpair()
        with there:
            try:
                worker._process = await launch(app, there)
            except OSError as error:
                here.close()
                told = words.text_for_caller(error, "a process of agent %r cannot be started", app.name)
                raise AgentError(
                    f"the agent's process cannot be started: {type(error).__name__}: {told}",
                    code=AGENT_CRASHED_CODE,
                ) from None
        loop = asyncio.get_running_loop()
        _, worker._channel = await loop.create_unix_connection(
            lambda: WorkerChannel(lambda _: worker), sock=here
        )
        worker.ended = asyncio.create_task(worker._watch())
        try:
            await worker._channel.call("start")
        except ChannelClosed:
            await worker.ended
            raise AgentError(f"the agent's process {worker.fate}", code=AGENT_CRASHED_CODE) from None
        except BaseException as error:
            worker._end("could not initialise its agent")
            await asyncio.shield(worker.ended)
            if isinstance(error, asyncio.CancelledError):
                raise
            if isinstance(error, AgentError):
                raise AgentError(error.message, code=AGENT_CRASHED_CODE) from None

            told = words.text_for_caller(error, "a process of agent %r cannot initialise it", app.name)
            message = f"the agent's process cannot be started: {type(error).__name__}: {told}"
            raise AgentError(message, code=AGENT_CRASHED_CODE) from None
        return worker

    @property
    def load(self) -> int:
        """Number of executing runs and calls."""
        return self._working

    @property
    def ready(self) -> bool:
        """Whether it accepts another run."""
        return not (self._channel.closed.done() or self._verdict or self.spent.done())

    # Calls of the worker for its runs.

    def serve(
        self, method: str, args: tuple[Any, ...], named: dict[str, Any]
    ) -> tuple[ServedCall, Variables | None]:
        address, *rest = args
        if not isinstance(address, RemoteAddress) or (run := self._runs.get(address.run_id)) is None:
            raise RuntimeError("the run has ended; its context can no longer be used")
        return run.serve(address.path, method, tuple(rest), named), run.where

    def note(self, method: str, args: tuple[Any, ...]) -> None:
        run_id, items, waits = args
        if (run := self._runs.get(run_id)) is not None:
            run.receive_items(items, waits)

    # Calls to the worker.

    async def execute(self, context: Context, sink: RunSink) -> None:
        """As AgentHost.execute. Raises AgentError with code `agent_crashed` if the worker ends first."""
        run = RemoteRun(self._channel, context, sink, partial(self._overdue, context.run_id))
        self._runs[context.run_id] = run
        self._enter()
        self._begun += 1
        if self._begun == self._limits.max_runs:
            self.spent.set_result(None)
        ending = self._channel.begin("execute", run.order)
        try:
            while not ending.done():
                try:
                    await asyncio.wait({ending})
                except asyncio.CancelledError:
                    run.stop()
            if run.problem is not None:
                raise run.problem
            if not await ending:
                raise asyncio.CancelledError
        except ChannelClosed:
            await asyncio.shield(self.ended)
            raise AgentError(f"the agent's process {self.fate}", code=AGENT_CRASHED_CODE) from None
        finally:
            self._leave()
            await run.close()
            del self._runs[context.run_id]

    def _overdue(self, run_id: str) -> asyncio.TimerHandle:
        """Start the timer after which the worker is killed if the run has not stopped."""
        seconds = self._limits.stop_seconds
        verdict = f"was killed: its agent had not stopped {seconds:g} s after the stop of run {run_id}"
        return asyncio.get_running_loop().call_later(seconds, self._end, verdict)

    async def call_endpoint(self, path: str, body: Any) -> Any:
        """As AgentHost.call_endpoint."""
        self._enter()
        try:
            return orjson.loads(await self._channel.call("call_endpoint", path, body))
        except ChannelClosed:
            raise await self._crashed() from None
        finally:
            self._leave()

    async def stream_endpoint(self, path: str, body: Any) -> AsyncGenerator[Any, None]:
        """As AgentHost.stream_endpoint."""
        self._enter()
        items = self._channel.stream("stream_endpoint", path, body)
        try:
            async for item in items:
                yield orjson.loads(item)
        except ChannelClosed:
            raise await self._crashed() from None
        finally:
            await items.aclose()
            self._leave()

    async def _crashed(self) -> EndpointFailed:
        await asyncio.shield(self.ended)
        return EndpointFailed(f"the agent's process {self.fate}", error_type=AgentError.__name__)

    def _enter(self) -> None:
        self._working += 1
        self._idle.clear()

    def _leave(self) -> None:
        self._working -= 1
        if not self._working:
            self._idle.set()

    # End of the worker.

    async def stop(self, *, idle: bool = False) -> None:
        """Shut the agent down and end the process; `idle` waits for its runs and calls first."""
        if idle:
            idling = asyncio.create_task(self._idle.wait())
            await asyncio.wait({idling, self.ended}, return_when=asyncio.FIRST_COMPLETED)
            idling.cancel()
        try:
            async with asyncio.timeout(SHUTDOWN_SECONDS):
                await self._channel.call("stop")
        except (ChannelClosed, TimeoutError):
            pass  # the process is killed below
        self._end("was shut down")
        await asyncio.shield(self.ended)

    def _end(self, verdict: str) -> None:
        self._verdict = self._verdict or verdict
        self._channel.close()

    async def _watch(self) -> None:
        """Wait for the process to end or the channel to close; kill the rest, and only then fail the runs."""
        process, channel = self._process, self._channel
        over = asyncio.create_task(process.wait())
        signs: set[asyncio.Future[Any]] = {over, channel.closed}
        watching = asyncio.create_task(self._weigh()) if self._limits.memory_bytes else None
        try:
            await asyncio.wait(signs, return_when=asyncio.FIRST_COMPLETED)
            if not self._verdict:
                await asyncio.wait({over}, timeout=EXIT_GRACE_SECONDS)
        finally:
            if watching is not None:
                watching.cancel()
        gone = over.done()
        await process.kill()
        how = await over
        self.fate = self._verdict or (how if gone and not channel.problem else "broke its connection")
        # A process that the agent forked may hold the other end open.
        channel.close()

    async def _weigh(self) -> None:
        most = self._limits.memory_bytes
        while True:
            now = self._process.memory_bytes()
            if now > most:
                self._end(f"was killed: it used {now} bytes of memory, more than its limit of {most}")
            await asyncio.sleep(MEMORY_CHECK_SECONDS)
