"""OpenAI's packages for Node and Python, unchanged, as clients of Chat Completions behind `portico run`."""

from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from openai import AsyncOpenAI
from support.deployment import Deployment
from support.programs import lines, node

HERE = Path(__file__).parent
AGENT = HERE / "agents" / "chatting.py"


@pytest.fixture
def chatting(tmp_path: Path) -> Iterator[Deployment]:
    started = Deployment(AGENT, tmp_path)
    yield started
    started.stop()


async def test_node(chatting: Deployment) -> None:
    told = await lines(node(), HERE / "openai_chat.mjs", f"{chatting.url}/v1")
    models, create, stream, helper, parsed, *tools, missing, failed, broken = told
    assert models["models"] == ["scripted", "other"]
    assert create["content"] == stream["content"] == 'It is sunny.\n\n{"degrees":21}'
    assert create["usage"] == stream["usage"] == 12
    assert (helper["content"], helper["finish"]) == ("One moment.", "tool_calls")
    assert helper["call"]["arguments"] == '{"city": "Paris"}'
    assert (parsed["plain"], parsed["streamed"]) == ({"degrees": 21}, {"degrees": 22})
    assert parsed["call"] == {"city": "Paris"}
    assert [step["content"] for step in tools] == ["The tool said sunny in Paris."] * 2
    assert (missing["error"], missing["code"]) == ("NotFoundError", "model_not_found")
    assert missing["id"].startswith("req_")
    assert (failed["error"], failed["status"]) == ("InternalServerError", 500)
    assert (broken["error"], broken["code"]) == ("APIError", "AGENT_UNKNOWN_ERROR")


@pytest.mark.parametrize("store", [True, False])
async def test_a_core_that_dies_is_told(chatting: Deployment, store: bool) -> None:
    """Received text stays valid; an incomplete answer ends with an error, not silently."""
    said: list[str] = []

    async def read(client: AsyncOpenAI) -> None:
        stream = await client.chat.completions.create(
            model="scripted", messages=[{"role": "user", "content": "forever"}], stream=True, store=store
        )
        async for chunk in stream:
            said.append(chunk.choices[0].delta.content or "")
            if len(said) == 5:
                chatting.kill("portico.core")

    async with AsyncOpenAI(base_url=f"{chatting.url}/v1", api_key="none", max_retries=0) as client:
        with pytest.raises(openai.APIError) as failed:
            await read(client)
    assert len(said) >= 5
    assert failed.value.code == "core_restarted"
