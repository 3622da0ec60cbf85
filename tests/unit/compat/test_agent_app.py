"""AgentApp and Runner with the reference's API, over a core in this process."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from portico.agent import AgentApp as PorticoApp
from portico.compat.agentscope_runtime.engine import AgentApp, Runner
from portico.compat.agentscope_runtime.engine.function_adapter import adapt_function
from portico.compat.agentscope_runtime.engine.helpers.agent_api_builder import ResponseBuilder
from portico.compat.agentscope_runtime.engine.schemas.agent_schemas import (
    AgentRequest,
    AgentResponse,
    Event,
    Message,
    TextContent,
)
from portico.compat.agentscope_runtime.errors import NotThereYet


def asked(text: str, **more: Any) -> AgentRequest:
    return AgentRequest(input=[Message(role="user", content=[TextContent(text=text)])], **more)


class Echo(Runner):
    """Returns its input, in the requested way."""

    def __init__(self) -> None:
        super().__init__()
        self.framework_type = "text"
        self.life: list[str] = []
        self.seen: list[Any] = []

    async def init_handler(self, *args: Any, **kwargs: Any) -> None:
        self.life.append("init")

    async def shutdown_handler(self, *args: Any, **kwargs: Any) -> None:
        self.life.append("shutdown")

    async def query_handler(self, request: Any = None, response: Any = None, **kwargs: Any) -> Any:
        self.seen.append((request, response))
        text = request.input[-1].get_text_content()
        if text == "events":
            builder = ResponseBuilder(request.session_id)
            thoughts = builder.create_message_builder(message_type="reasoning")
            yield builder.in_progress()
            yield thoughts.get_message_data()
            content = thoughts.create_content_builder()
            for piece in ("H", "m."):
                yield content.add_text_delta(piece)
            yield content.complete()
            yield thoughts.complete()
            answer = builder.create_message_builder()
            yield answer.get_message_data()
            picture = answer.create_content_builder("image")
            yield picture.set_image_url("https://example.org/a.png")
            yield picture.complete()
            yield answer.complete()
            call = builder.create_message_builder(message_type="plugin_call")
            data = call.create_content_builder("data")
            data.set_data({"call_id": "1", "name": "f", "arguments": "{}"})
            data.complete()
            yield call.complete()
            yield builder.completed()
            return
        yield text
        yield "!"


@pytest.fixture(scope="module")
def loop_of_the_runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def echo(loop_of_the_runner: asyncio.Runner) -> Iterator[Echo]:
    """Starts one core for all tests, because a start takes time."""
    runner = Echo()
    loop_of_the_runner.run(runner.start())
    yield runner
    loop_of_the_runner.run(runner.stop())
    assert runner.life == ["init", "shutdown"]


async def answer(runner: Runner, request: AgentRequest) -> list[Event]:
    return [event async for event in runner.stream_query(request)]


async def test_a_runner_streams_what_it_is_asked(echo: Echo) -> None:
    events = await answer(echo, asked("hello", session_id="s", user_id="u", temperature=0.5, colour="red"))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert [event.text for event in events if isinstance(event, TextContent) and event.delta] == [
        "hello",
        "!",
    ]
    last = events[-1]
    assert isinstance(last, AgentResponse)
    assert last.output is not None
    assert (last.status, last.session_id, last.output[0].get_text_content()) == ("completed", "s", "hello!")
    request, response = echo.seen[-1]
    assert isinstance(request, AgentRequest)
    assert (request.session_id, request.user_id, request.temperature) == ("s", "u", 0.5)
    assert request.colour == "red"  # type: ignore[attr-defined]
    assert (response.session_id, response.status) == ("s", "in_progress")


async def test_events_of_builders_are_told_as_they_come_and_once(echo: Echo) -> None:
    events = await answer(echo, asked("events"))
    deltas = [event.text for event in events if isinstance(event, TextContent) and event.delta]
    assert deltas == ["H", "m."]
    last = events[-1]
    assert isinstance(last, AgentResponse)
    output: Any = last.output
    assert [message.type for message in output] == ["reasoning", "message", "plugin_call"]
    assert output[0].get_text_content() == "Hm."
    assert output[1].get_image_content() == ["https://example.org/a.png"]
    assert output[2].content[0].data["name"] == "f"


async def test_a_runner_that_is_not_started_says_so() -> None:
    with pytest.raises(RuntimeError, match="not been started"):
        await anext(Echo().stream_query(asked("hello")))


async def test_a_lifespan_is_around_init_and_shutdown() -> None:
    life: list[str] = []

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[dict[str, int]]:
        life.append("up")
        yield {"answer": 42}
        life.append("down")

    async def before(app: Any) -> None:
        life.append(f"before {app.state.answer}")

    app = AgentApp(
        app_name="a", lifespan=lifespan, before_start=before, after_finish=lambda app: life.append("after")
    )

    @app.init
    def begin(self: Any) -> None:
        life.append("init")

    @app.shutdown
    async def end(self: Any) -> None:
        life.append("shutdown")

    assert app.init_function is not None
    assert app.shutdown_function is not None
    await app.init_function()
    await app.shutdown_function()
    assert life == ["up", "before 42", "init", "shutdown", "after", "down"]


@pytest.mark.parametrize("kind", ["async generator", "coroutine", "generator", "function"])
def test_every_kind_of_function_stays_what_it_is(kind: str) -> None:
    async def stream(self: Any, msgs: Any, request: AgentRequest | None = None, **kwargs: Any) -> Any:
        yield "a"

    async def coroutine(self: Any, request: Any) -> Any:
        return "a"

    def generator(self: Any, request: Any) -> Any:
        yield "a"

    def function(msgs: Any) -> Any:
        return "a"

    functions = {
        "async generator": stream,
        "coroutine": coroutine,
        "generator": generator,
        "function": function,
    }
    app = AgentApp(app_name="a")
    assert app.query(framework="text")(functions[kind]) is functions[kind]
    assert app.framework == ""
    assert isinstance(app, PorticoApp)


async def test_what_is_sent_and_thrown_in_reaches_an_async_generator() -> None:
    async def query(self: Any) -> Any:
        answer = yield "question"
        try:
            yield f"got {answer}"
        except ValueError:
            yield Message(content=[TextContent(text="caught")], status="completed")

    stream = await adapt_function(query)(self=None)
    assert await stream.__anext__() == "question"
    assert await stream.asend("this") == "got this"
    assert (await stream.athrow(ValueError())).text == "caught"
    with pytest.raises(StopAsyncIteration):
        await stream.__anext__()
    await stream.aclose()


def test_what_is_sent_and_thrown_in_reaches_a_generator() -> None:
    ended = []

    def query(self: Any) -> Any:
        try:
            answer = yield "question"
            try:
                yield f"got {answer}"
            except ValueError:
                yield "caught"
        finally:
            ended.append(True)

    stream = adapt_function(query)(self=None)
    assert next(stream) == "question"
    assert stream.send("this") == "got this"
    assert stream.throw(ValueError()) == "caught"
    stream.close()
    assert ended == [True]


def test_what_means_nothing_is_told(caplog: pytest.LogCaptureFixture) -> None:
    AgentApp(app_name="a", broker_url="redis://localhost", enable_stream_task=True)
    assert "AgentApp(broker_url=...) has no effect in Portico" in caplog.text
    assert "AgentApp(enable_stream_task=...)" in caplog.text


async def test_what_is_not_there_says_so() -> None:
    app = AgentApp(app_name="a")
    with pytest.raises(NotThereYet, match=r"@app\.task"):
        app.task("/work")
    with pytest.raises(NotThereYet, match="stop_chat"):
        await app.stop_chat("u", "s")
    with pytest.raises(NotThereYet, match="/elsewhere"):
        AgentApp(app_name="a", endpoint_path="/elsewhere")
