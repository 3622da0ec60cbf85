"""A response continues exactly the response that it names, inside or outside a conversation."""

import asyncio
import json
from typing import Any

import openai as sdk
import pytest
from openai import AsyncOpenAI

pytestmark = pytest.mark.asyncio(loop_scope="module")

TOOL: Any = {"type": "function", "name": "look", "parameters": {"type": "object"}, "strict": True}


def plain(response: Any) -> Any:
    return {name: value for name, value in response.to_dict().items() if name != "output_text"}


async def history(openai: AsyncOpenAI, **more: Any) -> Any:
    response = await openai.responses.create(model="scripted", input="history", **more)
    return json.loads(response.output_text)


async def items(openai: AsyncOpenAI, conversation_id: str) -> list[str]:
    listed = openai.conversations.items.list(conversation_id, order="asc")
    return [item.to_dict()["content"][0]["text"] async for item in listed]  # type: ignore[index]


async def test_a_response_that_asked_is_continued_as_it_stood(openai: AsyncOpenAI) -> None:
    asked = await openai.responses.create(model="scripted", input="ask")
    answered = await openai.responses.create(model="scripted", input="Paris", previous_response_id=asked.id)
    past = ["ask", "A question.", "Which city?"]
    for _ in range(2):
        assert await history(openai, previous_response_id=asked.id) == [*past, "history"]
    whole = [*past, "Paris", "You said Paris."]
    assert await history(openai, previous_response_id=answered.id) == [*whole, "history"]
    # Another answer to the same question does not replace the first.
    other = await openai.responses.create(model="scripted", input="echo Rome", previous_response_id=asked.id)
    assert other.id.count("_") == 1
    assert await history(openai, previous_response_id=other.id) == [*past, "echo Rome", "Rome", "history"]
    tokens = [
        (await openai.responses.input_tokens.count(model="scripted", previous_response_id=id)).input_tokens
        for id in (asked.id, answered.id)
    ]
    assert tokens[0] < tokens[1]
    compacted = await openai.responses.compact(model="scripted", previous_response_id=asked.id)
    expanded: Any = [compacted.output[0].to_dict(), {"role": "user", "content": "input"}]
    told = await openai.responses.create(model="scripted", input=expanded)
    assert [message["content"][0]["text"] for message in json.loads(told.output_text)] == [*past, "input"]


async def test_a_steered_response_is_continued_as_it_stood(openai: AsyncOpenAI) -> None:
    async with openai.responses.connect() as connection:
        await connection.response.create(model="scripted", input="steps 4")
        events: list[Any] = []
        async for event in connection:
            events.append(event)
            if event.type == "response.output_text.delta" and event.delta == "step 0 ":
                id = events[0].response.id
                await connection.response.steer(input="turn left", previous_response_id=id)
            if event.type == "response.completed":
                break
    before = next(event.response for event in events if event.type == "response.incomplete")
    said = await history(openai, previous_response_id=before.id)
    assert said == ["steps 4", before.output_text, "history"]


async def test_a_chain_that_begins_in_a_conversation_does_not_write_there(openai: AsyncOpenAI) -> None:
    conversation = await openai.conversations.create()
    first = await openai.responses.create(model="scripted", input="echo one", conversation=conversation.id)
    aside = await openai.responses.create(model="scripted", input="echo aside", previous_response_id=first.id)
    assert aside.conversation is None
    assert await history(openai, previous_response_id=aside.id) == [
        "echo one",
        "one",
        "echo aside",
        "aside",
        "history",
    ]
    assert await items(openai, conversation.id) == ["echo one", "one"]
    assert await history(openai, conversation=conversation.id) == ["echo one", "one", "history"]


async def test_a_deleted_conversation_stays_deleted(openai: AsyncOpenAI) -> None:
    conversation = await openai.conversations.create()
    first = await openai.responses.create(model="scripted", input="echo one", conversation=conversation.id)
    running = await openai.responses.create(
        model="scripted", input="slow a b c d e f", conversation=conversation.id, background=True
    )
    await openai.conversations.delete(conversation.id)
    async for event in await openai.responses.retrieve(running.id, stream=True):
        last = event
    assert last.type == "response.completed"
    for stream in (False, True):
        for response in (first, running):
            with pytest.raises(sdk.BadRequestError) as error:
                await openai.responses.create(
                    model="scripted", input="history", previous_response_id=response.id, stream=stream
                )
            assert error.value.code == "previous_response_not_found"
            assert error.value.param == "previous_response_id"
            assert "deleted" in error.value.message
    with pytest.raises(sdk.NotFoundError):
        await openai.conversations.retrieve(conversation.id)
    # The responses themselves still exist.
    assert (await openai.responses.retrieve(first.id)).output_text == "one"


async def test_an_answer_repeats_its_own_parameters(openai: AsyncOpenAI) -> None:
    asked = await openai.responses.create(
        model="scripted", input="ask", instructions="first", metadata={"n": "1"}, temperature=0.5
    )
    secret: Any = {"type": "mcp", "server_label": "s", "server_url": "https://x", "authorization": "secret"}
    answered = await openai.responses.create(
        model="scripted",
        input="Paris",
        previous_response_id=asked.id,
        instructions="second",
        metadata={"n": "2"},
        tools=[TOOL, secret],
        max_output_tokens=7,
    )
    assert answered.id == f"{asked.id}_2"
    told = answered.to_dict()
    assert (told["instructions"], told["metadata"]) == ("second", {"n": "2"})
    assert [tool["type"] for tool in told["tools"]] == ["function", "mcp"]  # type: ignore[attr-defined]
    assert (told["temperature"], told["max_output_tokens"]) == (1.0, 7)
    assert "secret" not in json.dumps(told)
    assert (await openai.responses.retrieve(answered.id)).to_dict() == plain(answered)
    again = (await openai.responses.retrieve(asked.id)).to_dict()
    assert (again["instructions"], again["metadata"], again["temperature"]) == ("first", {"n": "1"}, 0.5)
    listed = await openai.responses.input_items.list(answered.id)
    assert "second" not in json.dumps(listed.to_dict())


async def test_only_the_agent_that_asked_is_answered_and_goes_on_as_it_began(openai: AsyncOpenAI) -> None:
    asked = await openai.responses.create(model="scripted", input="ask")
    for name, value in (("background", True), ("store", False)):
        given: Any = {name: value}
        with pytest.raises(sdk.BadRequestError) as error:
            await openai.responses.create(
                model="scripted", input="Paris", previous_response_id=asked.id, **given
            )
        assert error.value.param == name
    with pytest.raises(sdk.BadRequestError) as error:
        await openai.responses.create(model="player", input="Paris", previous_response_id=asked.id)
    assert error.value.param == "model"
    with pytest.raises(sdk.NotFoundError):
        await openai.responses.create(model="nobody", input="Paris", previous_response_id=asked.id)
    answered = await openai.responses.create(model="scripted", input="Paris", previous_response_id=asked.id)
    assert answered.output_text == "You said Paris."


@pytest.mark.parametrize("place", ["previous", "conversation"])
async def test_a_repeated_answer_is_the_first(openai: AsyncOpenAI, place: str) -> None:
    conversation = await openai.conversations.create()
    inside: Any = {"conversation": conversation.id} if place == "conversation" else {}
    begin = {**inside, "extra_headers": {"Idempotency-Key": f"begin {place}"}}
    asked = await openai.responses.create(model="scripted", input="ask", **begin)
    # A repeat of the question's own request is not taken for the answer either.
    again = await openai.responses.create(model="scripted", input="ask", **begin)
    assert again == asked
    inside = inside or {"previous_response_id": asked.id}
    headers = {"Idempotency-Key": f"answer {place}"}
    both = await asyncio.gather(
        *(
            openai.responses.create(model="scripted", input="Paris", extra_headers=headers, **inside)
            for _ in range(2)
        )
    )
    later = await openai.responses.create(model="scripted", input="Paris", extra_headers=headers, **inside)
    assert both[0] == both[1] == later
    assert later.id == f"{asked.id}_2"
    stream = await openai.responses.create(
        model="scripted", input="Paris", extra_headers=headers, stream=True, **inside
    )
    events = [event async for event in stream]
    assert events[-1].response == later
    with pytest.raises(sdk.ConflictError) as error:
        await openai.responses.create(model="scripted", input="Rome", extra_headers=headers, **inside)
    assert error.value.code == "idempotency_conflict"


async def test_an_item_that_is_there_already_is_refused(openai: AsyncOpenAI) -> None:
    first: Any = await openai.responses.create(model="scripted", input="echo one")
    given: Any = {**first.output[0].to_dict()}
    with pytest.raises(sdk.BadRequestError) as error:
        await openai.responses.create(model="scripted", input=[given], previous_response_id=first.id)
    assert error.value.code == "duplicate_item"
    assert error.value.param == "input[0].id"
    with pytest.raises(sdk.BadRequestError) as error:
        await openai.responses.create(model="scripted", input=[given, given])
    assert error.value.param == "input[1].id"
    # Without a chain, and before the question, it is new.
    question: Any = {"role": "user", "content": "input"}
    told = await openai.responses.create(model="scripted", input=[given, question])
    assert [message["content"][0]["text"] for message in json.loads(told.output_text)] == ["one", "input"]
    asked = await openai.responses.create(model="scripted", input="ask")
    answer: Any = [{"role": "user", "content": "Paris", "id": "msg_mine"}]
    for _ in range(2):
        await openai.responses.create(model="scripted", input=answer, previous_response_id=asked.id)


async def test_a_reference_into_nowhere_is_refused(openai: AsyncOpenAI) -> None:
    first: Any = await openai.responses.create(model="scripted", input="echo one")
    with pytest.raises(sdk.NotFoundError) as error:
        await openai.responses.create(
            model="scripted", input=[{"type": "item_reference", "id": first.output[0].id}]
        )
    assert (error.value.code, error.value.param) == ("item_not_found", "input[0]")
    assert "previous response" in error.value.message
