"""AgentScope 1 with Portico's own session and state, which outlive the core."""

from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any

import pytest
from agentscope.agent import ReActAgent
from agentscope.formatter import OpenAIChatFormatter
from agentscope.model import OpenAIChatModel
from agentscope.pipeline import stream_printing_messages
from agentscope.tool import Toolkit, execute_python_code
from support.model import Call, Reply, ScriptedModel
from support.serving import running_core

from portico.agent import AgentApp
from portico.client import Client

SCRIPT = {
    "six times seven": [
        Reply(calls=[Call("call_1", "execute_python_code", ['{"code": "print(6 * 7)"}'])]),
        Reply(["It is 42."]),
    ],
    "and now": [Reply(["It is ", "still 42."])],
}


@pytest.fixture
def model() -> Iterator[ScriptedModel]:
    started = ScriptedModel(SCRIPT)
    yield started
    started.stop()


def friday(url: str) -> AgentApp:
    app = AgentApp("friday")

    @app.query(framework="agentscope1")
    async def query(msgs: Any, memory: Any, state: Any) -> AsyncGenerator[Any, None]:
        toolkit = Toolkit()
        toolkit.register_tool_function(execute_python_code)
        agent = ReActAgent(
            name="Friday",
            model=OpenAIChatModel("scripted", api_key="none", client_kwargs={"base_url": url}),
            sys_prompt="You're a helpful assistant named Friday.",
            toolkit=toolkit,
            memory=memory,
            formatter=OpenAIChatFormatter(),
        )
        agent.set_console_output_enabled(enabled=False)
        agent.turns = 0
        agent.register_state("turns")
        if state:
            agent.load_state_dict(state, strict=False)
        agent.turns += 1
        async for msg, last in stream_printing_messages(agents=[agent], coroutine_task=agent(msgs)):
            yield msg, last
        state.update(agent.state_dict())
        yield f" Turn {agent.turns}."

    return app


async def test_a_conversation_and_its_state_go_on_in_another_core(
    model: ScriptedModel, tmp_path: Path
) -> None:
    said = []
    for text in ("six times seven", "and now"):
        store = f"sqlite:///{tmp_path}/portico.db"
        async with (
            running_core([friday(model.url)], tmp_path, store=store),
            Client(f"unix:{tmp_path}/core.sock") as client,
        ):
            said.append(await client.runs.query(text, session_id="s", user_id="u").text())
    assert said == ["It is 42. Turn 1.", "It is still 42. Turn 2."]
    roles = [message["role"] for message in model.requests[-1]["messages"]]
    assert roles == ["system", "user", "assistant", "tool", "assistant", "user"]
