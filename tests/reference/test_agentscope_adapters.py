"""Adapters for AgentScope 1: memories stored in services, and tools that execute in sandboxes."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from agentscope.message import Base64Source, ImageBlock, Msg, TextBlock, URLSource
from agentscope.tool import Toolkit
from support import notebook
from support.redis_server import redis_server
from support.reference_programs import renamed

from portico.compat.agentscope_runtime.adapters.agentscope.long_term_memory import AgentScopeLongTermMemory
from portico.compat.agentscope_runtime.adapters.agentscope.memory import AgentScopeSessionHistoryMemory
from portico.compat.agentscope_runtime.adapters.agentscope.message import (
    agentscope_msg_to_message,
    message_to_agentscope_msg,
)
from portico.compat.agentscope_runtime.engine.schemas.agent_schemas import ImageContent, Message, TextContent
from portico.compat.agentscope_runtime.engine.services.memory import MemoryService, MemoryServiceFactory
from portico.compat.agentscope_runtime.engine.services.session_history import (
    SessionHistoryService,
    SessionHistoryServiceFactory,
)
from portico.compat.agentscope_runtime.sandbox import BaseSandboxAsync, FilesystemSandbox

PICTURE: Any = Base64Source(type="base64", media_type="image/png", data="aWNl")
CONVERSATION: list[Msg] = [
    Msg("ada", "hello", "user", metadata={"a": 1}),
    Msg(
        "ada",
        [
            TextBlock(type="text", text="look"),
            ImageBlock(type="image", source=PICTURE),
            ImageBlock(type="image", source=URLSource(type="url", url="https://example.org/a.png")),
            {"type": "audio", "source": {"type": "base64", "media_type": "audio/wav", "data": "c291bmQ="}},
            {"type": "video", "source": {"type": "url", "url": "https://example.org/a.mp4"}},
        ],
        "user",
    ),
    Msg(
        "Friday",
        [
            {"type": "thinking", "thinking": "Hm."},
            TextBlock(type="text", text="I look."),
            {"type": "tool_use", "id": "1", "name": "f", "input": {"x": [1]}},
            {"type": "tool_use", "id": "2", "name": "g", "input": {}},
        ],
        "assistant",
    ),
    Msg(
        "system",
        [
            {"type": "tool_result", "id": "1", "name": "f", "output": [{"type": "text", "text": "[1]"}]},
            {"type": "tool_result", "id": "2", "name": "g", "output": "[not, json"},
        ],
        "system",
    ),
    Msg("Friday", [], "assistant"),
]


@pytest.fixture(params=["in_memory", "redis"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, str]]:
    if request.param == "in_memory":
        yield {"backend_type": "in_memory"}
    else:
        with redis_server(tmp_path) as url:
            yield {"backend_type": "redis", "redis_url": url}


@pytest.fixture
async def sessions(backend: dict[str, str]) -> AsyncIterator[SessionHistoryService]:
    async with await SessionHistoryServiceFactory.create(**backend) as service:
        yield service


@pytest.fixture
async def memories(backend: dict[str, str]) -> AsyncIterator[MemoryService]:
    async with await MemoryServiceFactory.create(**backend) as service:
        yield service


def told(messages: list[Msg]) -> list[dict[str, Any]]:
    return [message.to_dict() for message in messages]


def test_messages_come_back_as_they_went() -> None:
    made = agentscope_msg_to_message(CONVERSATION)
    assert [message.type for message in made] == [
        *("message", "message", "reasoning", "message", "plugin_call", "plugin_call"),
        *("plugin_call_output", "plugin_call_output", "message"),
    ]
    again = [Message.model_validate_json(message.model_dump_json()) for message in made]
    assert told(message_to_agentscope_msg(again)) == told(CONVERSATION)


def test_messages_of_others_become_agentscopes() -> None:
    said = Message(
        role="user", content=[TextContent(text="look"), ImageContent(image_url="data:image/png;base64,aWNl")]
    )
    msg = message_to_agentscope_msg(said)
    assert (msg.id, msg.role) == (said.id, "user")
    assert msg.content == [{"type": "text", "text": "look"}, {"type": "image", "source": PICTURE}]
    with pytest.raises(TypeError, match="Expected Message"):
        message_to_agentscope_msg("hello")  # type: ignore[arg-type]


async def test_a_memory_is_a_session(sessions: SessionHistoryService) -> None:
    memory = AgentScopeSessionHistoryMemory(service=sessions, user_id="u", session_id="s")
    assert await memory.get_memory() == []
    await memory.add(CONVERSATION[:2])
    await memory.add(CONVERSATION[2:], marks="hint")
    await memory.add(None)
    # Another object, as after a restart, has the content of the first one.
    again = AgentScopeSessionHistoryMemory(sessions, "u", "s")
    assert told(await again.get_memory()) == told(CONVERSATION)
    assert await again.size() == len(CONVERSATION)
    assert told(await memory.get_memory(exclude_mark="hint")) == told(CONVERSATION[:2])
    assert await memory.update_messages_mark("old", "hint", [CONVERSATION[2].id]) == 1
    assert await memory.delete_by_mark("old") == 1
    assert await memory.delete([CONVERSATION[0].id, "never was"]) == 1
    assert told(await again.get_memory()) == told([CONVERSATION[1], *CONVERSATION[3:]])
    await memory.clear()
    assert await again.size() == 0


async def test_a_long_term_memory_is_a_users(memories: MemoryService) -> None:
    memory = AgentScopeLongTermMemory(memories, "u", "s")
    await memory.record([None, Msg("ada", "I like green tea", "user")])
    await memory.record_to_memory("may matter", ["Ada lives in Rome"])
    assert await memory.retrieve(Msg("ada", "tea", "user")) == "I like green tea"
    found = await memory.retrieve_from_memory(["Rome", "tea"])
    assert "lives in Rome" in found.content[0]["text"]
    assert "green tea" in found.content[0]["text"]
    assert await memory.retrieve(None) == ""


@pytest.mark.parametrize("version", ["v1_0", "v1_1"])
def test_the_readmes_adapter_makes_a_tool_of_a_sandboxs_method(version: str, tmp_path: Path) -> None:
    """The README's own example uses a browser, which is not supported."""
    file = renamed(f"{version}/tool_adapter", tmp_path, 0)
    file.write_text(file.read_text().replace("browser_navigate", "write_file"))
    program = ModuleType("program")
    program.sandbox = FilesystemSandbox()  # type: ignore[attr-defined]
    notebook.run(str(file), program)
    toolkit = Toolkit()
    toolkit.register_tool_function(program.wrapped_tool)
    [schema] = toolkit.get_json_schemas()
    assert schema["function"]["name"] == "write_file"
    parameters = schema["function"]["parameters"]
    assert parameters["required"] == ["path", "content"]
    assert parameters["properties"]["path"]["description"] == "Path to the file to write."


async def test_an_agents_call_runs_in_the_sandbox() -> None:
    from portico.compat.agentscope_runtime.adapters.agentscope.tool import sandbox_tool_adapter

    with FilesystemSandbox() as box:
        async with BaseSandboxAsync() as twin:
            toolkit = Toolkit()
            toolkit.register_tool_function(sandbox_tool_adapter(box.run_shell_command))
            toolkit.register_tool_function(sandbox_tool_adapter(twin.run_ipython_cell))
            shell: Any = {
                "type": "tool_use",
                "id": "1",
                "name": "run_shell_command",
                "input": {"command": "pwd"},
            }
            cell: Any = {
                "type": "tool_use",
                "id": "2",
                "name": "run_ipython_cell",
                "input": {"code": "print(6)"},
            }
            for call, words in ((shell, "/workspace\n"), (cell, "6\n")):
                results = [result async for result in await toolkit.call_tool_function(call)]
                assert results[-1].content[0]["text"] == words
