"""Local host: executes agents in this process, coroutines on the loop and plain functions in threads."""

import asyncio
import inspect
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from functools import partial
from typing import Any

from portico.agent import AgentApp, AgentError, Context, Rejection
from portico.agent.adapter_registry import load_framework
from portico.agent.app import Endpoint
from portico.agent.context import InputRequest, ReportedError
from portico.core.errors import EndpointFailed, EndpointIsStreaming, EndpointNotFound
from portico.core.hosts.base.agent_errors import short_traceback
from portico.core.hosts.base.agent_host import AgentStartFailed, RunSink
from portico.core.hosts.base.agent_registry import AgentRegistry
from portico.core.hosts.base.error_disclosure import ErrorDisclosure
from portico.core.hosts.base.function_threads import ThreadedGenerator, ThreadSlot
from portico.core.hosts.base.invoke import bind_arguments, invoke
from portico.core.hosts.local.adapter_sink import AdapterSink, run_with_adapter
from portico.telemetry.log import log_ids

log = logging.getLogger(__name__)

THREADS = 256  # most plain functions at once, without those that wait for an answer


class LocalHost(AgentRegistry):
    """Executes agents in this process; the first one is the default."""

    def __init__(
        self, apps: Sequence[AgentApp], words: ErrorDisclosure | None = None, *, threads: int = THREADS
    ) -> None:
        super().__init__(apps)
        self._words = words or ErrorDisclosure()
        self._threads = asyncio.Semaphore(threads)

    async def start(self) -> None:
        for app in self.agents:
            if app.init_function is not None:
                log_ids.agent.set(app.name)
                try:
                    await invoke(bind_arguments(app.init_function, {"self": app}), ThreadSlot(self._threads))
                except asyncio.CancelledError:
                    raise
                except BaseException as error:
                    log.debug("the init function of agent %r raised", app.name, exc_info=True)
                    message = (
                        f"the init function of agent {app.name!r} raised {short_traceback(error, app.source)}"
                    )
                    raise AgentStartFailed(message) from error
        log_ids.agent.set("")

    async def stop(self) -> None:
        for app in self.agents:
            if app.shutdown_function is not None:
                log_ids.agent.set(app.name)
                try:
                    await invoke(
                        bind_arguments(app.shutdown_function, {"self": app}), ThreadSlot(self._threads)
                    )
                except Exception:
                    log.exception("the shutdown function of agent %r raised", app.name)

    async def execute(self, app: AgentApp, context: Context, sink: RunSink) -> None:
        log_ids.agent.set(app.name)
        offered = {"self": app, "request": context.request, "context": context}
        if app.framework:
            translation = load_framework(app.framework).open(context)
            await run_with_adapter(translation, context, sink, partial(self._run, app, context, offered))
        else:
            await self._run(
                app, context, offered, AdapterSink(sink, context), {"msgs": list(context.request.input)}
            )

    async def _run(
        self,
        app: AgentApp,
        context: Context,
        offered: Mapping[str, Any],
        sink: AdapterSink,
        more: Mapping[str, Any],
    ) -> None:
        assert app.query_function is not None
        start = bind_arguments(app.query_function, {**more, **offered})
        if inspect.isasyncgenfunction(app.query_function):
            await self._drive(start(), context, sink)
            return

        def patient() -> bool:
            # An exception cannot be raised in a thread: the function reads the interruption from its
            # context, and its final output is used.
            return context.interrupted and not context.cancelled

        slot = ThreadSlot(self._threads).of_this_run()
        if inspect.isgeneratorfunction(app.query_function):
            await self._drive(ThreadedGenerator(start, slot, patient), context, sink)
        else:
            result = await invoke(start, slot, patient)
            if hasattr(result, "__anext__"):
                await self._drive(result, context, sink)
            else:
                self._emit_result(result, sink)

    async def _drive(self, stream: Any, context: Context, sink: AdapterSink) -> None:
        step = stream.__anext__
        emit = sink.run.emit
        translate = sink.emit
        try:
            while True:
                item = await step()
                step = stream.__anext__
                if context.cancelled:
                    raise asyncio.CancelledError
                if type(item) is str:
                    emit(item)
                elif isinstance(item, Rejection):
                    raise item
                elif isinstance(item, InputRequest):
                    step = await self._ask(stream, item, context)
                else:
                    translate(item)
                if sink.run.needs_drain:
                    try:
                        await sink.run.drain()
                    except asyncio.CancelledError as cancelled:
                        # The run is stopped while it waits for the log: raise that in the agent.
                        step = _thrower(stream, cancelled)
        except StopAsyncIteration:
            pass
        finally:
            # An SDK may return another type than a generator, with `close` in place of `aclose`.
            await (stream.aclose() if hasattr(stream, "aclose") else stream.close())

    async def _ask(self, stream: Any, item: InputRequest, context: Context) -> Any:
        try:
            answer = await context.ask(item)
        except (Exception, asyncio.CancelledError) as error:
            return _thrower(stream, error)
        return lambda: stream.asend(answer)

    def _emit_result(self, result: Any, sink: AdapterSink) -> None:
        for item in result if isinstance(result, list | tuple) else (result,):
            if isinstance(item, Rejection):
                raise item
            sink.emit(item)

    def _endpoint(self, app: AgentApp, path: str) -> Endpoint:
        try:
            return app.endpoints[path]
        except KeyError:
            raise EndpointNotFound(path) from None

    async def call_endpoint(self, app: AgentApp, path: str, body: Any) -> Any:
        endpoint = self._endpoint(app, path)
        if endpoint.streaming:
            raise EndpointIsStreaming(path)
        log_ids.agent.set(app.name)
        try:
            return await invoke(_bind_endpoint(endpoint, app, body), ThreadSlot(self._threads))
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            raise self._failed(error, path, app) from None

    async def stream_endpoint(self, app: AgentApp, path: str, body: Any) -> AsyncIterator[Any]:
        endpoint = self._endpoint(app, path)
        if not endpoint.streaming:
            yield await self.call_endpoint(app, path, body)
            return
        log_ids.agent.set(app.name)
        try:
            start = _bind_endpoint(endpoint, app, body)
            stream: Any = (
                start()
                if inspect.isasyncgenfunction(endpoint.function)
                else ThreadedGenerator(start, ThreadSlot(self._threads))
            )
            try:
                async for item in stream:
                    yield item
            finally:
                await stream.aclose()
        except (asyncio.CancelledError, GeneratorExit):
            raise
        except BaseException as error:
            raise self._failed(error, path, app) from None

    def _failed(self, error: BaseException, path: str, app: AgentApp) -> EndpointFailed:
        if isinstance(error, AgentError) and not isinstance(error, ReportedError):
            return EndpointFailed(error.message, error_type=type(error).__name__)
        kind = type(error).__name__
        told = self._words.text_for_caller(error, "endpoint %s of agent %r raised", path, app.name)
        return EndpointFailed(told or kind, error_type=kind)


def _thrower(stream: Any, error: BaseException) -> Any:
    return lambda: stream.athrow(error)


def _bind_endpoint(endpoint: Endpoint, app: AgentApp, body: Any) -> Any:
    offered = dict(body) if isinstance(body, Mapping) else {}
    offered.setdefault("body", body)
    offered.setdefault("request", body)
    offered["self"] = app
    return bind_arguments(endpoint.function, offered)
