"""Images, audio and files: input and output of each framework, as far as it has types for them."""

import base64
import json
from collections.abc import AsyncGenerator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from agents import Agent
from agents.items import ToolCallOutputItem
from agents.stream_events import RunItemStreamEvent
from frameworks.natives import NATIVES
from pydantic_ai.messages import BinaryContent, FunctionToolResultEvent, ToolReturnPart
from support.model import ScriptedModel
from support.serving import running_core

from portico.agent import (
    AgentApp,
    AudioContent,
    FileContent,
    ImageContent,
    Message,
    MessageType,
    Role,
    TextContent,
    tool_call,
    tool_output,
)
from portico.client import Client
from portico.frameworks.agentscope import to_agentscope
from portico.frameworks.agno.messages import to_agno
from portico.frameworks.autogen.messages import to_autogen
from portico.frameworks.langgraph import to_langchain
from portico.frameworks.ms_agent_framework.messages import to_agent_framework
from portico.frameworks.openai.messages import to_chat, to_items
from portico.frameworks.pydantic_ai.messages import to_pydantic_ai
from portico.v1 import events_pb2 as pb

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
WAV = base64.b64encode(b"RIFF of a song").decode()
PDF = base64.b64encode(b"%PDF-1.4 of a page").decode()
CONTENTS = {
    "image": pb.Content(
        type=pb.CONTENT_TYPE_IMAGE, image=pb.ImageContent(image_url=f"data:image/png;base64,{PNG}")
    ),
    "audio": pb.Content(type=pb.CONTENT_TYPE_AUDIO, audio=pb.AudioContent(data=WAV, format="wav")),
    "file": pb.Content(
        type=pb.CONTENT_TYPE_FILE,
        media_type="application/pdf",
        file=pb.FileContent(filename="a.pdf", file_data=PDF),
    ),
}
BYTES = {"image": PNG, "audio": WAV, "file": PDF}
FRAMEWORKS = sorted([*NATIVES, "openai_agents"])
# AutoGen has no type for these, so a text names them.
IN_WORDS = {("autogen", "audio"): "[audio : audio/wav]", ("autogen", "file"): "[file a.pdf: application/pdf]"}
# The framework supports it, but its adapter of OpenAI's API omits it.
KEPT_FROM_THE_MODEL = {("agentscope", "file"), ("langgraph", "audio")}


@pytest.mark.parametrize(
    ("framework", "kind"),
    [
        (framework, kind)
        for framework in FRAMEWORKS
        for kind in CONTENTS
        if (framework, kind) not in KEPT_FROM_THE_MODEL
    ],
)
async def test_what_a_user_sends_reaches_the_model(
    client: Client, model: ScriptedModel, framework: str, kind: str
) -> None:
    text = pb.Content(type=pb.CONTENT_TYPE_TEXT, text="hello")
    message = pb.Message(role=pb.ROLE_USER, type=pb.MESSAGE_TYPE_MESSAGE, content=[text, CONTENTS[kind]])
    events = [event async for event in client.runs.query([message], agent=framework)]
    assert events[-1].response.status == pb.RUN_STATUS_COMPLETED, events[-1].response.error
    asked = json.dumps(model.requests[-1])
    if framework == "autogen" and kind == "image":
        assert "data:image/png;base64,iVBORw0KGgo" in asked  # it encodes the image again
    else:
        assert IN_WORDS.get((framework, kind), BYTES[kind]) in asked


CONVERSATION = [
    Message(
        Role.USER,
        (
            TextContent("see"),
            ImageContent(f"data:image/png;base64,{PNG}"),
            AudioContent(WAV, "wav"),
            FileContent(file_data=PDF, filename="a.pdf", media_type="application/pdf"),
        ),
    ),
    tool_call("draw", {}, call_id="c"),
    Message(
        Role.TOOL,
        (*tool_output("c", "drawn", name="draw").content, ImageContent(f"data:image/png;base64,{PNG}")),
        MessageType.PLUGIN_CALL_OUTPUT,
    ),
]
TO: dict[str, Callable[[Sequence[Message]], Sequence[Any]]] = {
    "agentscope": to_agentscope,
    "agno": to_agno,
    "autogen": to_autogen,
    "langgraph": to_langchain,
    "ms_agent_framework": to_agent_framework,
    "openai, Chat Completions": to_chat,
    "openai, Responses": to_items,
    "pydantic_ai": to_pydantic_ai,
}
# These cannot hold an image in a tool's result.
RESULTS_IN_WORDS = ("agno", "autogen", "ms_agent_framework", "openai, Chat Completions")


def inside(value: Any) -> str:
    """Returns all values in a framework's messages, with bytes as base64."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, str | int | float | None):
        return str(value)
    if isinstance(value, dict):
        return " ".join(inside(one) for one in (*value, *value.values()))
    if isinstance(value, list | tuple):
        return " ".join(map(inside, value))
    if hasattr(value, "to_base64"):  # AutoGen's image
        return str(value.to_base64())
    fields = getattr(value, "__dict__", None) or {
        name: getattr(value, name, None) for name in getattr(value, "__dataclass_fields__", {})
    }
    return inside(fields)


@pytest.mark.parametrize("framework", TO)
def test_a_frameworks_messages_hold_all_that_it_has_types_for(framework: str) -> None:
    user, *_, result = TO[framework](CONVERSATION)
    held = inside(user)
    assert "see" in held
    for kind, body in BYTES.items():
        written = body[:12] if framework == "autogen" else body  # it encodes an image again
        assert IN_WORDS.get((framework, kind), written) in held, kind
    told = inside(result)
    assert "drawn" in told
    assert ("[image: image/png]" if framework in RESULTS_IN_WORDS else PNG) in told


@pytest.mark.parametrize("framework", NATIVES)
async def test_what_a_framework_makes_reaches_the_caller(framework: str, tmp_path: Path) -> None:
    items, made = NATIVES[framework](PNG, WAV, PDF)
    contents = await said(framework, items, tmp_path)
    assert contents == {kind: body for kind, body in BYTES.items() if kind in made}


async def test_pictures_that_a_tool_gave_reach_the_caller(tmp_path: Path) -> None:
    raw = {
        "type": "function_call_output",
        "call_id": "c",
        "output": [
            {"type": "input_text", "text": "drawn"},
            {"type": "input_image", "image_url": f"data:image/png;base64,{PNG}"},
            {"type": "input_file", "file_data": PDF, "filename": "a.pdf"},
        ],
    }
    item: Any = ToolCallOutputItem(agent=Agent(name="friday"), raw_item=raw, output=object())  # type: ignore[arg-type]
    event = RunItemStreamEvent(name="tool_output", item=item)
    assert await said("openai_agents", [event], tmp_path) == {"image": PNG, "file": PDF}


async def test_pictures_that_a_tool_of_pydantic_ai_gave_are_told_once(tmp_path: Path) -> None:
    picture = BinaryContent(data=base64.b64decode(PNG), media_type="image/png")
    part = ToolReturnPart("draw", ["drawn", picture], "c")
    event = FunctionToolResultEvent(part)
    assert await said("pydantic_ai", [event], tmp_path) == {"image": PNG}


async def said(framework: str, items: Sequence[Any], directory: Path) -> dict[str, str]:
    """Returns the output of a run that yields these items, by kind: base64. Files keep their names."""
    app = AgentApp("maker")

    @app.query(framework=framework)
    async def query() -> AsyncGenerator[Any, None]:
        for item in items:
            yield item

    async with running_core([app], directory), Client(f"unix:{directory}/core.sock") as client:
        events = [event async for event in client.runs.query("go")]
    response = events[-1].response
    assert response.status == pb.RUN_STATUS_COMPLETED, response.error
    told: dict[str, str] = {}
    for content in (content for message in response.output for content in message.content):
        match content.WhichOneof("value"):
            case "data_json":
                assert PNG not in content.data_json
            case "image":
                told["image"] = content.image.image_url.removeprefix("data:image/png;base64,")
            case "audio":
                told["audio"] = content.audio.data
            case "file":
                told["file"] = content.file.file_data
                assert content.file.filename in ("a.pdf", "")
    return told
