"""Builders create the same stream as the reference's, event by event."""

from typing import Any

import pytest

from portico.compat.agentscope_runtime.engine.helpers.agent_api_builder import (
    ContentBuilder,
    ResponseBuilder,
    StreamingResponseBuilder,
)
from portico.compat.agentscope_runtime.engine.schemas.agent_schemas import (
    ContentType,
    DataContent,
    Error,
    Message,
    SequenceNumberGenerator,
    TextContent,
)


@pytest.fixture
def response() -> ResponseBuilder:
    return ResponseBuilder("s")


def content(response: ResponseBuilder, kind: str) -> ContentBuilder:
    return response.create_message_builder().create_content_builder(kind)


def test_a_text_is_streamed_from_created_to_completed() -> None:
    numbers = SequenceNumberGenerator()
    builder = StreamingResponseBuilder("s", "response_1")
    events = [
        numbers.yield_with_sequence(event.model_copy(deep=True))
        for event in builder.generate_streaming_response(["Hel", "lo"])
    ]
    assert [(one.sequence_number, one.object, one.status) for one in events] == [
        (0, "response", "created"),
        (1, "response", "in_progress"),
        (2, "message", "in_progress"),
        (3, "content", "in_progress"),
        (4, "content", "in_progress"),
        (5, "content", "completed"),
        (6, "message", "completed"),
        (7, "response", "completed"),
    ]
    told: Any = [event.model_dump() for event in events]
    assert [(one["delta"], one["text"]) for one in told[3:6]] == [
        (True, "Hel"),
        (True, "lo"),
        (False, "Hello"),
    ]
    assert {one["msg_id"] for one in told[3:6]} == {told[2]["id"]}
    assert told[7]["output"][0]["content"][0]["text"] == "Hello"
    assert told[7]["completed_at"] >= told[7]["created_at"]
    # The builder begins another response with a new id.
    assert told[0]["id"] == told[7]["id"] != "response_1"


def test_data_grows_by_what_its_members_are(response: ResponseBuilder) -> None:
    builder = content(response, ContentType.DATA)
    builder.set_data({"text": "a", "n": 1, "list": [1], "object": {"x": "1"}, "flag": True})
    piece = builder.add_data_delta(
        {"text": "b", "n": 2, "list": [2], "object": {"x": "2", "y": 1}, "flag": False}
    )
    assert (piece.delta, piece.status) == (True, "in_progress")
    builder.add_data_delta({"n": "other", "new": None})
    assert builder.complete().data == {
        "text": "ab",
        "n": "other",
        "list": [1, 2],
        "object": {"x": "12", "y": 1},
        "flag": False,
        "new": None,
    }
    assert builder.update_data("text", "c").data["text"] == "c"  # type: ignore[index]


@pytest.mark.parametrize(
    ("kind", "method", "value", "member"),
    [
        ("text", "set_text", "hello", "text"),
        ("image", "set_image_url", "https://example.org/a.png", "image_url"),
        ("refusal", "set_refusal", "no", "refusal"),
    ],
)
def test_a_content_is_set_as_a_whole(
    response: ResponseBuilder, kind: str, method: str, value: str, member: str
) -> None:
    builder = content(response, kind)
    assert getattr(builder, method)(value).status == "in_progress"
    whole = builder.complete()
    assert (whole.status, getattr(whole, member)) == ("completed", value)
    assert builder.message_builder.complete().content == [whole]


def test_what_does_not_belong_is_refused(response: ResponseBuilder) -> None:
    with pytest.raises(ValueError, match="only supported for text content"):
        content(response, "image").add_text_delta("a")
    with pytest.raises(ValueError, match="Unsupported content type: hologram"):
        content(response, "hologram")


def test_contents_and_messages_keep_their_places(response: ResponseBuilder) -> None:
    first, second = (
        response.create_message_builder(),
        response.create_message_builder(message_type="reasoning"),
    )
    assert [message.type for message in response.response.output or ()] == ["message", "reasoning"]
    contents = [first.create_content_builder(), first.create_content_builder()]
    for number, builder in enumerate(contents):
        builder.set_text(str(number))
        builder.complete()
    contents[0].set_text("again")
    contents[0].complete()
    assert [one.text for one in first.get_message_data().content or ()] == ["again", "1"]  # type: ignore[union-attr]
    response.add_message(second.complete())
    assert len(response.get_response_data().output or ()) == 2


def test_a_message_gathers_pieces(response: ResponseBuilder) -> None:
    message = Message(role="assistant")
    assert message.add_delta_content(TextContent(text="Hel", delta=True)).index == 0
    assert message.add_delta_content(TextContent(text="lo", delta=True, index=0)).msg_id == message.id
    message.add_delta_content(DataContent(data={"arguments": "{"}, delta=True))
    message.add_delta_content(DataContent(data={"arguments": "}", "name": "f"}, delta=True, index=1))
    assert message.get_text_content() == "Hello"
    assert message.content_completed(1).data == {"arguments": "{}", "name": "f"}
    assert message.content_completed(2) is None


def test_openais_messages_are_read() -> None:
    url = {"url": "https://example.org/a.png"}
    said = Message.from_openai_message(
        {
            "role": "user",
            "content": [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": url}],
        }
    )
    assert (said.get_text_content(), said.get_image_content()) == ("look", [url["url"]])
    function = {"name": "f", "arguments": "{}"}
    call = Message.from_openai_message(
        {"role": "assistant", "tool_calls": [{"id": "1", "function": function}]}
    )
    assert (call.type, call.content[0].data) == (  # type: ignore[index, union-attr]
        "function_call",
        {"call_id": "1", "name": "f", "arguments": "{}"},
    )
    result = Message.from_openai_message({"role": "tool", "tool_call_id": "1", "content": "done"})
    assert result.content[0].data["output"] == "done"  # type: ignore[index, union-attr]


def test_an_event_says_how_it_stands() -> None:
    message = Message()
    assert [
        getattr(message, name)().status for name in ("created", "in_progress", "rejected", "canceled")
    ] == [
        "created",
        "in_progress",
        "rejected",
        "canceled",
    ]
    assert message.failed(Error(code="X", message="no")).error == Error(code="X", message="no")
