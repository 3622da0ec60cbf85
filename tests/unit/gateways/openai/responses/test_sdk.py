"""The openai SDK with the gateway: creating, streaming, parsing, retrieving."""

import asyncio
import json
from typing import Any

import httpx
import openai as sdk
import pytest
from openai import AsyncOpenAI
from pydantic import BaseModel

from portico.agent import tool_call

from .conftest import SCRIPTS

pytestmark = pytest.mark.asyncio(loop_scope="module")


def plain(response: Any) -> Any:
    """Returns the value without members that the SDK's helpers add."""

    def strip(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: strip(item) for name, item in value.items() if not name.startswith("parsed")}
        return [strip(item) for item in value] if isinstance(value, list) else value

    return strip(response.to_dict())


async def test_a_text_is_answered_with_a_whole_response(openai: AsyncOpenAI) -> None:
    response = await openai.responses.create(
        model="scripted", input="echo hello", instructions="be kind", metadata={"a": "b"}, temperature=0.5
    )
    assert response.status == "completed"
    assert response.output_text == "hello"
    assert response.model == "scripted"
    assert response.instructions == "be kind"
    assert response.metadata == {"a": "b"}
    assert response.temperature == 0.5
    assert response.error is None
    assert response.completed_at is not None
    assert await openai.responses.retrieve(response.id) == response


async def test_a_stream_ends_with_what_retrieve_returns(openai: AsyncOpenAI) -> None:
    async with openai.responses.stream(model="scripted", input="rich") as stream:
        events = [event async for event in stream]
        final = await stream.get_final_response()
    assert [event.sequence_number for event in events] == list(range(len(events)))
    kinds = [item.type for item in final.output]
    assert kinds == ["reasoning", "mcp_call", "message"]
    assert final.output_text == 'It is sunny.![image](https://x/i.png){"degrees":21}'
    call: Any = final.output[1]
    assert (call.name, call.server_label, call.output, call.status) == (
        "get_weather",
        "scripted",
        "sunny",
        "completed",
    )
    thought: Any = final.output[0]
    assert thought.content[0].text == "Let me think."
    assert final.usage is not None
    assert final.usage.total_tokens == 12
    assert final.usage.input_tokens_details.cached_tokens == 3
    stored = await openai.responses.retrieve(final.id)
    assert plain(stored) == plain(final)


async def test_reasoning_is_a_summary_when_one_is_asked_for(openai: AsyncOpenAI) -> None:
    async with openai.responses.stream(
        model="scripted", input="rich", reasoning={"summary": "auto"}
    ) as stream:
        types = [event.type async for event in stream]
        final = await stream.get_final_response()
    thought: Any = final.output[0]
    assert thought.summary[0].text == "Let me think."
    assert not thought.content
    assert "response.reasoning_summary_text.delta" in types
    assert "response.reasoning_text.delta" not in types


async def test_a_model_is_parsed_from_the_answer(openai: AsyncOpenAI) -> None:
    class Weather(BaseModel):
        degrees: int

    parsed = await openai.responses.parse(model="scripted", input='echo {"degrees": 21}', text_format=Weather)
    assert parsed.output_parsed == Weather(degrees=21)


async def test_a_refusal_is_one(openai: AsyncOpenAI) -> None:
    async with openai.responses.stream(model="scripted", input="refuse") as stream:
        types = [event.type async for event in stream]
        final = await stream.get_final_response()
    message: Any = final.output[0]
    assert message.content[0].refusal == "I would rather not."
    assert "response.refusal.done" in types


WEATHER: Any = {
    "type": "function",
    "name": "get_weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    "strict": True,
}


async def test_a_function_call_is_the_callers_and_its_output_comes_back(openai: AsyncOpenAI) -> None:
    async with openai.responses.stream(model="scripted", input="call get_weather", tools=[WEATHER]) as stream:
        final = await stream.get_final_response()
    call: Any = final.output[0]
    assert (call.type, call.name, call.call_id) == ("function_call", "get_weather", "call_1")
    assert json.loads(call.arguments) == {"city": "Paris"}
    answered = await openai.responses.create(
        model="scripted",
        previous_response_id=final.id,
        input=[{"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}],
    )
    assert "sunny" in answered.output_text
    assert answered.previous_response_id == final.id
    # Without a chain, with everything in the input.
    again = await openai.responses.create(
        model="scripted",
        input=[
            {"role": "user", "content": "call get_weather"},
            call.to_dict(),
            {"type": "function_call_output", "call_id": call.call_id, "output": "rain"},
        ],
        store=False,
    )
    assert "rain" in again.output_text


@pytest.mark.parametrize(
    ("name", "event"),
    [
        ("get_weather", "response.function_call_arguments"),
        ("run", "response.custom_tool_call_input"),
        ("own", "response.mcp_call_arguments"),
    ],
)
async def test_arguments_come_as_the_agent_says_them(openai: AsyncOpenAI, name: str, event: str) -> None:
    custom: Any = {"type": "custom", "name": "run"}
    async with openai.responses.stream(
        model="scripted", input=f"pieces {name}", tools=[WEATHER, custom]
    ) as stream:
        told: list[Any] = [piece async for piece in stream if piece.type.startswith(event)]
        (item,) = (await stream.get_final_response()).output
    assert [piece.delta for piece in told[:-1]] == ['{"city"', ': "Par', 'is"}']
    assert told[-1].type == f"{event}.done"
    whole: Any = item
    assert (whole.input if name == "run" else whole.arguments) == '{"city": "Paris"}'


async def test_a_custom_tool_gets_any_text(openai: AsyncOpenAI) -> None:
    tool: Any = {"type": "custom", "name": "run"}
    async with openai.responses.stream(model="scripted", input="call run", tools=[tool]) as stream:
        types = [event.type async for event in stream]
        final = await stream.get_final_response()
    call: Any = final.output[0]
    assert call.type == "custom_tool_call"
    assert call.input == '{"city": "Paris"}'
    assert "response.custom_tool_call_input.done" in types
    answered = await openai.responses.create(
        model="scripted",
        previous_response_id=final.id,
        input=[{"type": "custom_tool_call_output", "call_id": call.call_id, "output": "ok"}],
    )
    assert "ok" in answered.output_text


async def test_the_agent_gets_every_parameter(openai: AsyncOpenAI) -> None:
    response = await openai.responses.create(
        model="scripted",
        input="request",
        instructions="be brief",
        max_output_tokens=50,
        max_tool_calls=3,
        parallel_tool_calls=False,
        reasoning={"effort": "low"},
        text={"verbosity": "low"},
        tool_choice="required",
        tools=[WEATHER],
        top_p=0.25,
        truncation="auto",
        user="ann",
        metadata={"k": "v"},
        include=["reasoning.encrypted_content"],
    )
    told = json.loads(response.output_text)
    assert told["user_id"] == "ann"
    assert told["max_tokens"] == 50
    assert told["metadata"] == {"k": "v"}
    assert told["tools"] == [["get_weather", "function", WEATHER["parameters"]]]
    extra = told["extra"]
    assert extra["instructions"] == "be brief"
    assert extra["tool_choice"] == "required"
    assert response.max_output_tokens == 50
    assert response.max_tool_calls == 3
    assert response.parallel_tool_calls is False
    assert response.reasoning is not None
    assert response.reasoning.effort == "low"
    assert response.tool_choice == "required"
    assert response.truncation == "auto"
    assert response.user == "ann"
    assert response.tools[0].to_dict() == {**WEATHER, "description": None}
    assert response.text is not None
    assert response.text.verbosity == "low"


async def test_a_failing_agent_is_a_failed_response(openai: AsyncOpenAI) -> None:
    response = await openai.responses.create(model="scripted", input="boom")
    assert response.status == "failed"
    assert response.error is not None
    assert response.error.code == "server_error"
    message: Any = response.output[0]
    assert message.status == "incomplete"
    stream = await openai.responses.create(model="scripted", input="boom", stream=True)
    events = [event async for event in stream]
    assert events[-1].type == "response.failed"
    failed = await openai.responses.create(model="scripted", input="fail rate_limit_exceeded")
    assert failed.error is not None
    assert failed.error.code == "rate_limit_exceeded"
    rejected = await openai.responses.create(model="scripted", input="reject")
    assert rejected.status == "failed"
    assert rejected.to_dict()["error"] == {"code": "closed", "message": "not today"}


async def test_an_agent_that_stops_short_is_incomplete(openai: AsyncOpenAI) -> None:
    response = await openai.responses.create(model="scripted", input="fail max_tokens")
    assert response.status == "incomplete"
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == "max_output_tokens"


async def test_calls_beyond_max_tool_calls_are_not_made_and_the_response_is_incomplete(
    openai: AsyncOpenAI,
) -> None:
    SCRIPTS["calls"] = [tool_call("one", {}), tool_call("two", {}), tool_call("three", {}), "done"]
    response = await openai.responses.create(model="player", input="calls", max_tool_calls=2)
    assert response.status == "incomplete"
    assert response.incomplete_details is not None
    assert response.incomplete_details.to_dict() == {"reason": "max_tool_calls"}
    assert [item.to_dict()["name"] for item in response.output] == ["one", "two"]
    assert response.error is None
    whole = await openai.responses.create(model="player", input="calls", max_tool_calls=3)
    assert (whole.status, whole.output_text) == ("completed", "done")


async def test_chains_and_conversation_carry_what_was_said(openai: AsyncOpenAI) -> None:
    first = await openai.responses.create(model="scripted", input="echo one", instructions="x")
    second = await openai.responses.create(model="scripted", input="history", previous_response_id=first.id)
    assert json.loads(second.output_text) == ["echo one", "one", "history"]
    assert second.instructions is None
    third = await openai.responses.create(model="scripted", input="history", previous_response_id=first.id)
    assert json.loads(third.output_text) == ["echo one", "one", "history"]


async def test_a_response_that_is_not_stored_is_gone(openai: AsyncOpenAI) -> None:
    response = await openai.responses.create(model="scripted", input="echo one", store=False)
    assert response.output_text == "one"
    assert response.to_dict()["store"] is False
    with pytest.raises(sdk.NotFoundError):
        await openai.responses.retrieve(response.id)
    with pytest.raises(sdk.BadRequestError) as error:
        await openai.responses.create(model="scripted", input="history", previous_response_id=response.id)
    assert error.value.code == "previous_response_not_found"


async def test_a_question_ends_a_response_and_the_next_one_answers_it(openai: AsyncOpenAI) -> None:
    async with openai.responses.stream(model="scripted", input="ask") as stream:
        first = await stream.get_final_response()
    assert first.status == "completed"
    assert [item.to_dict()["content"][0]["text"] for item in first.output] == [  # type: ignore[index]
        "A question.",
        "Which city?",
    ]
    async with openai.responses.stream(
        model="scripted", input="Paris", previous_response_id=first.id
    ) as stream:
        events = [event async for event in stream]
        second = await stream.get_final_response()
    assert events[0].sequence_number == 0
    assert second.id == f"{first.id}_2"
    assert second.previous_response_id == first.id
    assert second.output_text == "You said Paris."
    assert second.usage is not None
    assert second.usage.output_tokens == 3
    assert (await openai.responses.retrieve(second.id)).to_dict() == plain(second)
    assert (await openai.responses.retrieve(first.id)).to_dict() == plain(first)
    items = await openai.responses.input_items.list(second.id)
    assert items.data[0].to_dict()["content"][0]["text"] == "Paris"  # type: ignore[index]
    with pytest.raises(sdk.NotFoundError):
        await openai.responses.retrieve(f"{first.id}_3")


async def test_background_goes_on_and_is_followed_from_any_event(
    openai: AsyncOpenAI, http: httpx.AsyncClient
) -> None:
    response = await openai.responses.create(model="scripted", input="slow a b c d", background=True)
    assert response.status in ("queued", "in_progress")
    assert response.background is True
    stream = await openai.responses.retrieve(response.id, stream=True)
    events = [event async for event in stream]
    assert events[0].type == "response.created"
    assert events[-1].type == "response.completed"
    rest = await openai.responses.retrieve(response.id, stream=True, starting_after=4)
    assert [event async for event in rest] == events[5:]
    async with openai.responses.stream(response_id=response.id, starting_after=4) as resumed:
        assert [event.sequence_number async for event in resumed] == [e.sequence_number for e in events[5:]]
        assert (await resumed.get_final_response()).output_text == "a b c d "


async def test_background_with_a_stream_is_cut_and_resumed(openai: AsyncOpenAI) -> None:
    stream = await openai.responses.create(
        model="scripted", input="slow a b c d e", background=True, stream=True
    )
    seen: list[Any] = []
    async for event in stream:
        seen.append(event)
        if event.type == "response.output_text.delta":
            break
    await stream.close()
    id = seen[0].response.id
    rest = await openai.responses.retrieve(id, stream=True, starting_after=seen[-1].sequence_number)
    seen += [event async for event in rest]
    assert [event.sequence_number for event in seen] == list(range(len(seen)))
    assert seen[-1].response.output_text == "a b c d e "


async def test_cancel_is_for_the_background_and_may_be_repeated(openai: AsyncOpenAI) -> None:
    response = await openai.responses.create(model="scripted", input="quiet", background=True)
    cancelled = await openai.responses.cancel(response.id)
    assert cancelled.status == "cancelled"
    assert (await openai.responses.cancel(response.id)).to_dict() == cancelled.to_dict()
    events = [event async for event in await openai.responses.retrieve(response.id, stream=True)]
    assert events[-1].type == "response.incomplete"
    plain = await openai.responses.create(model="scripted", input="echo x")
    with pytest.raises(sdk.BadRequestError):
        await openai.responses.cancel(plain.id)


async def test_delete_removes(openai: AsyncOpenAI) -> None:
    response = await openai.responses.create(model="scripted", input="echo x")
    await openai.responses.delete(response.id)
    with pytest.raises(sdk.NotFoundError):
        await openai.responses.retrieve(response.id)
    with pytest.raises(sdk.NotFoundError):
        await openai.responses.delete(response.id)


async def test_compatible_mode_takes_any_model(http: httpx.AsyncClient) -> None:
    async with AsyncOpenAI(base_url=f"{http.base_url}/compatible-mode/v1", api_key="x") as client:
        response = await client.responses.create(model="qwen-max", input="request")
        told = json.loads(response.output_text)
        assert (told["agent"], told["model"]) == ("scripted", "qwen-max")
        assert response.model == "qwen-max"
        named = await client.responses.create(model="scripted", input="request")
        assert json.loads(named.output_text)["model"] is None


async def test_a_question_that_nobody_can_answer_is_not_kept(
    openai: AsyncOpenAI, http: httpx.AsyncClient
) -> None:
    asking = await openai.responses.create(model="scripted", input="ask", store=False)
    assert asking.status == "completed"
    async with openai.responses.stream(model="scripted", input="ask", store=False) as stream:
        final = await stream.get_final_response()
    engine = http.core._engine  # type: ignore[attr-defined]
    async with asyncio.timeout(5):
        while any(engine.live(response.id) for response in (asking, final)):
            await asyncio.sleep(0.01)
