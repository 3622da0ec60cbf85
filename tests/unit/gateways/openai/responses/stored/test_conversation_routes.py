"""Conversations, counting and compaction through the openai SDK."""

import json
from typing import Any
from uuid import UUID

import httpx
import openai as sdk
import pytest
from openai import AsyncOpenAI

from portico.gateways.openai.responses.stored import conversation_routes

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_a_conversation_lives(openai: AsyncOpenAI) -> None:
    conversation = await openai.conversations.create(
        metadata={"topic": "x"}, items=[{"role": "user", "content": "hello"}]
    )
    assert conversation.id.startswith("conv_")
    assert conversation.metadata == {"topic": "x"}
    assert await openai.conversations.retrieve(conversation.id) == conversation
    updated = await openai.conversations.update(conversation.id, metadata={"topic": "y"})
    assert updated.metadata == {"topic": "y"}
    gone = await openai.conversations.delete(conversation.id)
    assert gone.deleted
    with pytest.raises(sdk.NotFoundError):
        await openai.conversations.retrieve(conversation.id)


async def test_responses_read_and_write_it(openai: AsyncOpenAI) -> None:
    conversation = await openai.conversations.create(items=[{"role": "user", "content": "before"}])
    response = await openai.responses.create(model="scripted", input="echo one", conversation=conversation.id)
    assert response.conversation is not None
    assert response.conversation.id == conversation.id
    second = await openai.responses.create(
        model="scripted", input="history", conversation={"id": conversation.id}
    )
    assert json.loads(second.output_text) == ["before", "echo one", "one", "history"]
    items = [item async for item in openai.conversations.items.list(conversation.id, order="asc", limit=2)]
    assert [item.to_dict().get("role") for item in items] == [
        "user",
        "user",
        "assistant",
        "user",
        "assistant",
    ]
    # The items are those of the response.
    assert items[2].to_dict()["id"] == response.output[0].to_dict()["id"]
    with pytest.raises(sdk.NotFoundError) as error:
        await openai.responses.create(model="scripted", input="x", conversation="conv_none")
    assert error.value.param == "conversation"


async def test_items_are_added_found_and_removed(openai: AsyncOpenAI) -> None:
    conversation = await openai.conversations.create()
    given: list[Any] = [
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": "look"},
                {"type": "input_image", "image_url": "https://x/y.png", "detail": "low"},
            ],
        },
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "ok"},
        {
            "type": "web_search_call",
            "id": "ws_1",
            "status": "completed",
            "action": {"type": "search", "query": "q"},
        },
    ]
    added = await openai.conversations.items.create(conversation.id, items=given)
    assert [item.type for item in added.data] == [
        "message",
        "function_call",
        "function_call_output",
        "web_search_call",
    ]
    first: Any = added.data[0]
    assert first.content[1].detail == "low"
    one = await openai.conversations.items.retrieve(added.data[1].id, conversation_id=conversation.id)  # type: ignore[arg-type]
    assert one.to_dict() == added.data[1].to_dict()
    left = await openai.conversations.items.delete(first.id, conversation_id=conversation.id)
    assert left.id == conversation.id
    ids = [item.to_dict()["id"] async for item in openai.conversations.items.list(conversation.id)]
    assert ids == [item.to_dict()["id"] for item in reversed(added.data[1:])]
    with pytest.raises(sdk.NotFoundError):
        await openai.conversations.items.retrieve(first.id, conversation_id=conversation.id)
    with pytest.raises(sdk.NotFoundError):
        await openai.conversations.items.delete(first.id, conversation_id=conversation.id)


async def test_an_item_is_added_once(openai: AsyncOpenAI) -> None:
    conversation = await openai.conversations.create()
    given: Any = [{"role": "user", "content": "first", "id": "msg_1"}]
    added: Any = await openai.conversations.items.create(conversation.id, items=given)
    assert added.data[0].id == "msg_1"
    more: Any = [{"role": "user", "content": "new"}, {"role": "user", "content": "second", "id": "msg_1"}]
    with pytest.raises(sdk.BadRequestError) as error:
        await openai.conversations.items.create(conversation.id, items=more)
    assert (error.value.code, error.value.param) == ("duplicate_item", "items[1].id")
    kept: Any = [item async for item in openai.conversations.items.list(conversation.id)]
    assert [item.content[0].text for item in kept] == ["first"]
    with pytest.raises(sdk.BadRequestError):
        await openai.conversations.create(items=[*given, *given])


async def test_a_conversation_with_a_bad_item_is_not_made(
    openai: AsyncOpenAI, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversation_routes, "uuid4", lambda: UUID(int=7))
    bad: Any = {"role": "user", "content": "x", "id": "m" * 300}  # too long for the core only
    with pytest.raises(sdk.BadRequestError) as error:
        await openai.conversations.create(items=[bad])
    assert error.value.param == "items[0].id"
    with pytest.raises(sdk.NotFoundError):
        await openai.conversations.retrieve(f"conv_{UUID(int=7).hex}")


async def test_an_item_can_be_referred_to(openai: AsyncOpenAI) -> None:
    first = await openai.responses.create(model="scripted", input="echo one")
    id: Any = first.output[0].to_dict()["id"]
    response = await openai.responses.create(
        model="scripted",
        previous_response_id=first.id,
        input=[{"type": "item_reference", "id": id}, {"role": "user", "content": "input"}],
    )
    said = [message["content"][0]["text"] for message in json.loads(response.output_text)]
    assert said == ["one", "input"]
    with pytest.raises(sdk.NotFoundError):
        await openai.responses.create(
            model="scripted",
            previous_response_id=first.id,
            input=[{"type": "item_reference", "id": "msg_none"}],
        )


async def test_input_items_are_paged(openai: AsyncOpenAI) -> None:
    response = await openai.responses.create(
        model="scripted",
        input=[
            {"role": "developer", "content": "be kind"},
            *[{"role": "user", "content": f"n {number}"} for number in range(5)],  # type: ignore[list-item]
            {"role": "user", "content": "echo x"},
        ],
    )
    items = [item async for item in openai.responses.input_items.list(response.id, limit=3, order="asc")]
    told: list[Any] = [item.to_dict() for item in items]
    assert [item["role"] for item in told] == ["developer"] + ["user"] * 6
    assert told[0]["content"] == [{"type": "input_text", "text": "be kind"}]
    newest = await openai.responses.input_items.list(response.id, limit=1)
    assert newest.data[0].to_dict() == told[-1]
    assert newest.has_more
    with pytest.raises(sdk.NotFoundError):
        await openai.responses.input_items.list(response.id, after="nothing")


async def test_tokens_are_estimated(openai: AsyncOpenAI) -> None:
    count = await openai.responses.input_tokens.count(model="scripted", input="x" * 400)
    assert count.input_tokens == 104
    response = await openai.responses.create(model="scripted", input="echo one")
    more = await openai.responses.input_tokens.count(
        model="scripted", previous_response_id=response.id, input="x" * 400
    )
    assert more.input_tokens == 104 + 4 + 2 + 4 + 1


async def test_a_compaction_stands_for_all_it_was_made_of(openai: AsyncOpenAI) -> None:
    first = await openai.responses.create(model="scripted", input="echo one")
    compacted = await openai.responses.compact(
        model="scripted", previous_response_id=first.id, input=[{"role": "user", "content": "two"}]
    )
    (item,) = compacted.output
    assert item.type == "compaction"
    response = await openai.responses.create(
        model="scripted",
        input=[item.to_dict(), {"role": "user", "content": "input"}],  # type: ignore[list-item]
    )
    said = [message["content"][0]["text"] for message in json.loads(response.output_text)]
    assert said == ["echo one", "one", "two", "input"]
    with pytest.raises(sdk.BadRequestError) as error:
        await openai.responses.create(
            model="scripted", input=[{"type": "compaction", "encrypted_content": "gAAAA"}]
        )
    assert error.value.code == "invalid_encrypted_content"


async def test_the_next_response_of_a_conversation_answers_its_question(openai: AsyncOpenAI) -> None:
    conversation = await openai.conversations.create()
    asking = await openai.responses.create(model="scripted", input="ask", conversation=conversation.id)
    assert asking.output_text == "A question.Which city?"
    answered = await openai.responses.create(model="scripted", input="Paris", conversation=conversation.id)
    assert answered.output_text == "You said Paris."
    assert answered.id == f"{asking.id}_2"
