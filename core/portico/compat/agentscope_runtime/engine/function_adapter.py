"""Adapts a query function of the reference to the core's interface."""

import inspect
from collections import deque
from collections.abc import Awaitable, Callable, Generator
from functools import wraps
from typing import Any

from portico.compat.agentscope_runtime.engine.conversion import Said, to_request
from portico.compat.agentscope_runtime.engine.schemas.agent_schemas import AgentResponse, Event

_OWN = "response"  # a parameter that Portico does not provide


def adapt_function(function: Callable[..., Any]) -> Callable[..., Any]:
    """Converts `request` and `response` to the reference's objects, and accepts the reference's events."""
    parameters = inspect.signature(function).parameters
    named = set(parameters)
    takes_all = any(one.kind is one.VAR_KEYWORD for one in parameters.values())

    def start(*given: Any, **offered: Any) -> Any:
        request = offered.get("request")
        if request is not None:
            offered["request"] = to_request(request)
        if _OWN in named or takes_all:
            session = getattr(request, "session_id", None)
            offered[_OWN] = AgentResponse(session_id=session).in_progress()
        return function(*given, **offered)

    adapter = _of_kind(function, start)
    # The core passes only the parameters that the function names; the request is always needed here.
    seen = [one for one in parameters.values() if one.name != _OWN]
    adapter.__signature__ = inspect.Signature(seen)  # type: ignore[attr-defined]
    return adapter


def _of_kind(function: Callable[..., Any], start: Callable[..., Any]) -> Callable[..., Any]:
    if inspect.isasyncgenfunction(function):

        @wraps(function)
        async def stream(*given: Any, **offered: Any) -> Any:
            return _Stream(start(*given, **offered))

        return stream
    if inspect.isgeneratorfunction(function):

        @wraps(function)
        def generate(*given: Any, **offered: Any) -> Generator[Any, Any, None]:
            yield from _generated(start(*given, **offered))

        return generate
    if inspect.iscoroutinefunction(function):

        @wraps(function)
        async def answer(*given: Any, **offered: Any) -> Any:
            result = await start(*given, **offered)
            return _Stream(result) if hasattr(result, "__anext__") else _whole(result)

        return answer

    @wraps(function)
    def plain(*given: Any, **offered: Any) -> Any:
        return _whole(start(*given, **offered))

    return plain


def _whole(result: Any) -> list[Any]:
    said = Said()
    items = result if isinstance(result, list) else [result]
    return [told for item in items for told in said.say(item)]


def _generated(generator: Generator[Any, Any, Any]) -> Generator[Any, Any, None]:
    said = Said()
    step: Callable[[], Any] = lambda: next(generator)  # noqa: E731 - it changes below
    try:
        while True:
            try:
                item = step()
            except StopIteration:
                return
            step = lambda: next(generator)  # noqa: E731
            for told in said.say(item):
                try:
                    answer = yield told
                except GeneratorExit:
                    raise
                except BaseException as error:
                    step = _later(generator.throw, error)
                else:
                    if answer is not None:
                        step = _later(generator.send, answer)
    finally:
        generator.close()


def _later(call: Callable[[Any], Any], value: Any) -> Callable[[], Any]:
    return lambda: call(value)


class _Stream:
    """An async generator that converts the items; values and exceptions sent to it reach the function."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._said = Said()
        self._waiting: deque[Any] = deque()

    async def _next(self, step: Callable[[], Awaitable[Any]]) -> Any:
        while not self._waiting:
            item = await step()
            step = self._stream.__anext__
            if not isinstance(item, Event):
                return item
            self._waiting.extend(self._said.say(item))
        return self._waiting.popleft()

    async def __anext__(self) -> Any:
        # Most items are not events and are passed on immediately.
        if not self._waiting:
            item = await self._stream.__anext__()
            if not isinstance(item, Event):
                return item
            self._waiting.extend(self._said.say(item))
        return await self._next(self._stream.__anext__)

    async def asend(self, value: Any) -> Any:
        return await self._next(lambda: self._stream.asend(value))

    async def athrow(self, error: BaseException) -> Any:
        self._waiting.clear()
        return await self._next(lambda: self._stream.athrow(error))

    async def aclose(self) -> None:
        await (self._stream.aclose() if hasattr(self._stream, "aclose") else self._stream.close())
