"""The reference runtime with a scripted agent, to be run by the peer's own Python: app.py PORT.

The text of the request is the name of a script. The agent answers as agents of the
agentscope framework do: it yields (message so far, is it the last chunk).
"""

# The peer lives in a venv of its own (.peer), so its types are unknown here.
# mypy: disable-error-code="import-not-found, untyped-decorator"

import asyncio
import sys
from collections.abc import Callable, Iterator
from typing import Any

from agentscope.message import Msg
from agentscope_runtime.engine import AgentApp
from agentscope_runtime.engine.helpers.agent_api_builder import ResponseBuilder

Chunks = Iterator[tuple[Any, bool]]

app = AgentApp(app_name="scripted", app_description="says what it is told to")


def _grow(blocks: list[list[dict[str, Any]]], role: str = "assistant") -> Chunks:
    """One message whose content grows from chunk to chunk, as the framework's models stream it."""
    msg = Msg("scripted", blocks[0], role)
    for number, content in enumerate(blocks, 1):
        msg.content = content
        yield msg, number == len(blocks)


def _text(*parts: str) -> Chunks:
    return _grow([[{"type": "text", "text": "".join(parts[: n + 1])}] for n in range(len(parts))])


def _thinking(*parts: str) -> Chunks:
    return _grow([[{"type": "thinking", "thinking": "".join(parts[: n + 1])}] for n in range(len(parts))])


def _begun() -> Chunks:
    yield Msg("scripted", [{"type": "text", "text": "I begin"}], "assistant"), False


def text() -> Chunks:
    yield from _text("The", " capital", " is Paris.")


def whole_text() -> Chunks:
    yield from _text("The capital is Paris.")


def tool() -> Chunks:
    call = {"type": "tool_use", "id": "call_1", "name": "get_weather"}
    yield from _grow([[{**call, "input": {"city": "Paris"}}]])
    result = {"type": "tool_result", "id": "call_1", "name": "get_weather"}
    yield from _grow([[{**result, "output": [{"type": "text", "text": "sunny"}]}]], "system")
    yield from _text("It is", " sunny.")


def tool_in_chunks() -> Chunks:
    call = {"type": "tool_use", "id": "call_1", "name": "get_weather"}
    yield from _grow([[{**call, "input": {}}], [{**call, "input": {"city": "Paris"}}]])
    result = {"type": "tool_result", "id": "call_1", "name": "get_weather"}
    yield from _grow([[{**result, "output": [{"type": "text", "text": "sunny"}]}]], "system")
    yield from _text("It is", " sunny.")


def mcp_tool() -> Chunks:
    call = {"type": "tool_use", "tool_type": "mcp", "server_label": "weather", "id": "call_1"}
    yield from _grow([[{**call, "name": "get_weather", "input": {"city": "Paris"}}]])
    result = {"type": "tool_result", "id": "call_1", "name": "get_weather"}
    yield from _grow([[{**result, "output": "sunny"}]], "system")


def text_then_tool() -> Chunks:
    said = {"type": "text", "text": "Let me look."}
    call = {"type": "tool_use", "id": "call_1", "name": "get_weather", "input": {"city": "Paris"}}
    yield from _grow([[said], [said, call]])


def reasoning() -> Chunks:
    """Thinking and answer as two messages."""
    yield from _thinking("Let me", " think.")
    yield from _text("Hi", " there")


def thinking() -> Chunks:
    """Thinking and answer in one message, as thinking models stream them."""
    thought = {"type": "thinking", "thinking": "Let me think."}
    yield from _grow(
        [
            [{"type": "thinking", "thinking": "Let me"}],
            [thought],
            [thought, {"type": "text", "text": "Hi"}],
            [thought, {"type": "text", "text": "Hi there"}],
        ]
    )


def data() -> Chunks:
    yield from _grow([[{"type": "data", "data": {"city": "Paris", "degrees": 21}}]])


def messages() -> Chunks:
    yield from _text("First", " message.")
    yield from _text("Second.")


def image() -> Chunks:
    yield from _grow([[{"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}}]])


def empty() -> Chunks:
    yield from ()


def error() -> Chunks:
    yield from _begun()
    raise ValueError("boom")


def long() -> Chunks:
    """Goes on until somebody stops it."""
    yield from _begun()


SCRIPTS: dict[str, Callable[[], Chunks]] = {
    script.__name__: script
    for script in (
        text,
        whole_text,
        tool,
        tool_in_chunks,
        mcp_tool,
        text_then_tool,
        reasoning,
        thinking,
        data,
        messages,
        image,
        empty,
        error,
        long,
    )
}


def _data_events(block: dict[str, Any], *_context: Any) -> Iterator[Any]:
    """The framework has no data block: this is the reference's hook for one, with its own builder."""
    message = ResponseBuilder().create_message_builder(role="assistant")
    content = message.create_content_builder("data")
    yield message.message
    yield content.set_data(block["data"])
    yield content.complete()
    yield message.complete()


@app.query(framework="agentscope")
async def query(_self: Any, msgs: list[Any], **_context: Any) -> Any:  # the peer makes it a response model
    script = SCRIPTS[msgs[-1].get_text_content()]
    for chunk in script():
        yield chunk
    if script is long:
        await asyncio.sleep(600)


@app.get("/readiness")
async def ready() -> dict[str, str]:
    """For the tests, which wait for it."""
    return {}


@app.post("/stop")
async def stop(body: dict[str, str]) -> dict[str, str]:
    """The peer leaves this route to its users."""
    await app.stop_chat(body["user_id"], body["session_id"])
    return {}


app._runner.out_type_converters = {"data": _data_events}

if __name__ == "__main__":
    app.run(host="127.0.0.1", port=int(sys.argv[1]))
