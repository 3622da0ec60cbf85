"""OpenAI's own SDK and LangChain, unmodified, as clients of Chat Completions."""

import json
from pathlib import Path
from typing import Any

import httpx
import openai as sdk
import pytest
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam
from pydantic import BaseModel, SecretStr

pytestmark = pytest.mark.asyncio(loop_scope="module")

TOOL: ChatCompletionToolParam = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


class City(BaseModel):
    name: str
    people: int


def said(text: str) -> list[ChatCompletionMessageParam]:
    return [{"role": "user", "content": text}]


async def test_models(openai: AsyncOpenAI) -> None:
    models = [model async for model in openai.models.list()]
    assert [model.id for model in models] == ["scripted", "other"]
    assert all((model.object, model.owned_by) == ("model", "portico") for model in models)
    assert await openai.models.retrieve("other") == models[1]
    with pytest.raises(sdk.NotFoundError, match="scripted, other"):
        await openai.models.retrieve("gpt-9")


async def test_create(openai: AsyncOpenAI) -> None:
    answer = await openai.chat.completions.create(model="scripted", messages=said("rich"))
    assert answer.choices[0].message.content == 'It is sunny.\n\n{"degrees":21}'
    assert answer.choices[0].message.model_extra == {"reasoning_content": "Let me think."}
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.total_tokens) == (7, 12)
    assert answer._request_id is not None


async def test_stream(openai: AsyncOpenAI) -> None:
    stream = await openai.chat.completions.create(
        model="scripted", messages=said("words a b c"), stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "abc"
    assert chunks[-1].usage is not None


async def test_the_stream_helper(openai: AsyncOpenAI) -> None:
    async with openai.chat.completions.stream(
        model="scripted",
        messages=said("talk-and-call"),
        tools=[TOOL],
        stream_options={"include_usage": True},
    ) as stream:
        kinds = [event.type async for event in stream]
        final = await stream.get_final_completion()
    assert {"chunk", "content.delta", "content.done"} <= set(kinds)
    assert "tool_calls.function.arguments.done" in kinds
    message = final.choices[0].message
    assert (message.content, final.choices[0].finish_reason) == ("One moment.", "tool_calls")
    assert message.tool_calls is not None
    assert message.tool_calls[0].function.arguments == '{"city": "Paris"}'
    assert final.usage is not None


async def test_the_stream_helper_hears_refusals(openai: AsyncOpenAI) -> None:
    async with openai.chat.completions.stream(model="scripted", messages=said("refuse")) as stream:
        final = await stream.get_final_completion()
    assert final.choices[0].message.refusal == "I would rather not."


async def test_parse(openai: AsyncOpenAI) -> None:
    text = 'echo {"name": "Paris", "people": 2}'
    answer = await openai.chat.completions.parse(model="scripted", messages=said(text), response_format=City)
    assert answer.choices[0].message.parsed == City(name="Paris", people=2)
    with pytest.raises(sdk.LengthFinishReasonError):
        await openai.chat.completions.parse(
            model="scripted", messages=said("fail length"), response_format=City
        )
    with pytest.raises(sdk.ContentFilterFinishReasonError):
        await openai.chat.completions.parse(
            model="scripted", messages=said("fail content_filter"), response_format=City
        )


@pytest.mark.parametrize("streaming", [False, True])
async def test_a_tool_loop(openai: AsyncOpenAI, streaming: bool) -> None:
    messages = said("call get_weather")
    if streaming:
        async with openai.chat.completions.stream(
            model="scripted", messages=messages, tools=[TOOL]
        ) as stream:
            answer: Any = await stream.get_final_completion()
    else:
        answer = await openai.chat.completions.create(model="scripted", messages=messages, tools=[TOOL])
    message = answer.choices[0].message
    messages.append(message.model_dump(exclude_none=True))
    for call in message.tool_calls:
        assert (call.function.name, json.loads(call.function.arguments)) == (
            "get_weather",
            {"city": "Paris"},
        )
        messages.append({"role": "tool", "tool_call_id": call.id, "content": "sunny"})
    answer = await openai.chat.completions.create(model="scripted", messages=messages, tools=[TOOL])
    assert answer.choices[0].message.content == "The tool said sunny."


async def test_arguments_come_as_the_agent_says_them(openai: AsyncOpenAI) -> None:
    messages = said("pieces get_weather")
    stream = await openai.chat.completions.create(
        model="scripted", messages=messages, tools=[TOOL], stream=True
    )
    calls = [call for chunk in [c async for c in stream] for call in chunk.choices[0].delta.tool_calls or []]
    assert [call.function.arguments for call in calls if call.function] == ["", '{"city"', ': "Par', 'is"}']
    answer = await openai.chat.completions.create(model="scripted", messages=messages, tools=[TOOL])
    (call,) = answer.choices[0].message.tool_calls or []
    assert call.type == "function"
    assert call.function.arguments == '{"city": "Paris"}'


async def test_vision_and_other_input(openai: AsyncOpenAI) -> None:
    answer = await openai.chat.completions.create(
        model="scripted",
        messages=[
            {
                "role": "user",
                "content": [
                    {"type": "image_url", "image_url": {"url": "https://x/i.png", "detail": "low"}},
                    {"type": "input_audio", "input_audio": {"data": "UklG", "format": "wav"}},
                    {"type": "text", "text": "input"},
                ],
            }
        ],
    )
    content = json.loads(answer.choices[0].message.content or "")[0]["content"]
    assert content == [{"image_url": "https://x/i.png"}, {"data": "UklG", "format": "wav"}, {"text": "input"}]


async def test_errors(openai: AsyncOpenAI) -> None:
    with pytest.raises(sdk.NotFoundError) as missing:
        await openai.chat.completions.create(model="gpt-9", messages=said("x"))
    assert (missing.value.code, missing.value.param) == ("model_not_found", "model")
    assert missing.value.request_id is not None
    with pytest.raises(sdk.BadRequestError, match="one answer"):
        await openai.chat.completions.create(model="scripted", messages=said("x"), n=2)
    with pytest.raises(sdk.UnprocessableEntityError, match="not today"):
        await openai.chat.completions.create(model="scripted", messages=said("reject"))
    with pytest.raises(sdk.InternalServerError, match="boom"):
        await openai.chat.completions.create(model="scripted", messages=said("boom"))
    stream = await openai.chat.completions.create(model="scripted", messages=said("boom"), stream=True)
    with pytest.raises(sdk.APIError, match="boom") as failed:
        _ = [chunk async for chunk in stream]
    assert failed.value.code == "AGENT_UNKNOWN_ERROR"


async def test_what_is_tried_again_and_what_is_not(http: httpx.AsyncClient) -> None:
    calls = []

    async def count(request: Any) -> None:
        calls.append(request)

    async with (
        sdk.DefaultAsyncHttpxClient(event_hooks={"request": [count]}) as counting,
        AsyncOpenAI(
            base_url=f"{http.base_url}/v1", api_key="none", max_retries=1, http_client=counting
        ) as client,
    ):
        for text, error, times in (
            ("boom", sdk.InternalServerError, 1),
            ("reject", sdk.UnprocessableEntityError, 1),
            ("fail rate_limit_exceeded", sdk.RateLimitError, 2),
        ):
            calls.clear()
            with pytest.raises(error):
                await client.chat.completions.create(model="scripted", messages=said(text))
            assert len(calls) == times


def langchain(http: httpx.AsyncClient, **more: Any) -> ChatOpenAI:
    return ChatOpenAI(
        model="scripted", base_url=f"{http.base_url}/v1", api_key=SecretStr("none"), max_retries=0, **more
    )


@tool
def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


async def test_langchain_asks_and_streams(http: httpx.AsyncClient) -> None:
    model = langchain(http, stream_usage=True)
    answer = await model.ainvoke("rich")
    assert answer.content == 'It is sunny.\n\n{"degrees":21}'
    assert isinstance(answer, AIMessage)
    assert answer.usage_metadata is not None
    assert answer.usage_metadata["total_tokens"] == 12
    total: Any = None
    async for chunk in model.astream("rich"):
        assert isinstance(chunk, AIMessageChunk)
        total = chunk if total is None else total + chunk
    assert total.content == answer.content
    assert total.usage_metadata["total_tokens"] == 12
    assert total.response_metadata["finish_reason"] == "stop"


async def test_langchain_calls_tools(http: httpx.AsyncClient) -> None:
    model = langchain(http).bind_tools([get_weather])
    asked = HumanMessage("call get_weather")
    calling = await model.ainvoke([asked])
    assert isinstance(calling, AIMessage)
    results = [await get_weather.ainvoke(call) for call in calling.tool_calls]
    assert isinstance(results[0], ToolMessage)
    answer = await model.ainvoke([asked, calling, *results])
    assert answer.content == "The tool said sunny in Paris."
    total: Any = None
    async for chunk in model.astream([asked]):
        total = chunk if total is None else total + chunk
    assert [(call["name"], call["args"]) for call in total.tool_calls] == [("get_weather", {"city": "Paris"})]


async def test_langchain_parses_and_fails(http: httpx.AsyncClient) -> None:
    parsing = langchain(http).with_structured_output(City, method="json_schema")
    assert await parsing.ainvoke('echo {"name": "Paris", "people": 2}') == City(name="Paris", people=2)
    with pytest.raises(sdk.InternalServerError, match="boom"):
        await langchain(http).ainvoke("boom")
    with pytest.raises(sdk.APIError, match="boom"):
        _ = [chunk async for chunk in langchain(http).astream("boom")]


async def test_files(openai: AsyncOpenAI, tmp_path: Path) -> None:
    answer = await openai.chat.completions.create(
        model="scripted",
        messages=[
            {
                "role": "user",
                "content": [
                    {
                        "type": "file",
                        "file": {"file_data": "data:application/pdf;base64,JVBE", "filename": "a.pdf"},
                    },
                    {"type": "text", "text": "input"},
                ],
            }
        ],
    )
    message = json.loads(answer.choices[0].message.content or "")[0]
    assert message["content"][0] == {"file_data": "JVBE", "filename": "a.pdf"}
    assert message["metadata"] == {"parts": {"0": {"media_type": "application/pdf"}}}
