"""Plain Python values become the contract's messages."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from portico.client import JsonText, query_request, user_message
from portico.client.convert import json_text, to_duration, to_messages, to_timestamp
from portico.v1 import events_pb2, query_pb2


def test_a_text_is_what_the_user_says() -> None:
    assert to_messages("hi") == [user_message("hi")]
    assert to_messages({"role": "user", "content": "hi"}) == [user_message("hi")]
    assert to_messages([{"content": [{"text": "hi"}]}, user_message("ho")]) == [
        user_message("hi"),
        user_message("ho"),
    ]


@pytest.mark.parametrize(
    ("part", "content"),
    [
        (
            {"type": "data", "data": {"n": 1}},
            events_pb2.Content(type=events_pb2.CONTENT_TYPE_DATA, data_json='{"n":1}'),
        ),
        (
            {"type": "image", "image_url": "https://x/y.png"},
            events_pb2.Content(
                type=events_pb2.CONTENT_TYPE_IMAGE, image=events_pb2.ImageContent(image_url="https://x/y.png")
            ),
        ),
        (
            {"type": "audio", "data": "UklG", "format": "wav"},
            events_pb2.Content(
                type=events_pb2.CONTENT_TYPE_AUDIO, audio=events_pb2.AudioContent(data="UklG", format="wav")
            ),
        ),
        (
            {"type": "file", "file_id": "f", "filename": None},
            events_pb2.Content(type=events_pb2.CONTENT_TYPE_FILE, file=events_pb2.FileContent(file_id="f")),
        ),
        (
            {"type": "refusal", "refusal": "no"},
            events_pb2.Content(type=events_pb2.CONTENT_TYPE_REFUSAL, refusal="no"),
        ),
        (
            {"type": "video", "video_url": "https://x/y.mp4"},
            events_pb2.Content(
                type=events_pb2.CONTENT_TYPE_VIDEO, video=events_pb2.VideoContent(video_url="https://x/y.mp4")
            ),
        ),
    ],
)
def test_every_kind_of_content_can_be_a_dict(part: dict[str, Any], content: events_pb2.Content) -> None:
    [message] = to_messages({"role": "tool", "type": "function_call_output", "content": [part, content]})
    assert list(message.content) == [content, content]
    assert message.role == events_pb2.ROLE_TOOL
    assert message.type == events_pb2.MESSAGE_TYPE_FUNCTION_CALL_OUTPUT


@pytest.mark.parametrize(
    "message", [{"role": "nobody"}, {"type": "nothing"}, {"content": [{"type": "smell"}]}]
)
def test_what_the_contract_lacks_is_refused(message: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"(?i)nobody|nothing|smell"):
        to_messages(message)


def test_json_is_written_once() -> None:
    assert json_text(None) == ""
    assert json_text("text") == '"text"'
    assert json_text(JsonText('{ "as": "it is" }')) == '{ "as": "it is" }'
    assert json_text({"grüße": [1, 2.5, None]}) == '{"grüße":[1,2.5,null]}'


def test_times() -> None:
    moment = datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC)
    stamp = to_timestamp(moment)
    assert stamp is not None
    assert stamp.ToDatetime(UTC) == moment
    assert to_timestamp(None) is None
    assert to_duration(1.5) == to_duration(timedelta(milliseconds=1500))


def test_a_query_says_all_that_is_asked() -> None:
    request = query_request(
        "hi",
        agent="friday",
        session_id="s",
        user_id="u",
        parameters={"temperature": 0.5},
        tools=[{"name": "add", "parameters": {"type": "object"}}],
        extra={"x": 1},
        metadata={"y": 2},
        request_id="r",
        background=True,
        idempotency_key="k",
        if_session_busy="reject",
        timeout=timedelta(minutes=1),
        budget={"wall_time": 1.5, "tool_calls": 0},
        parent_run_id="p",
    )
    expected = query_pb2.QueryRequest(
        request=query_pb2.AgentRequest(
            agent_name="friday",
            input=[user_message("hi")],
            session_id="s",
            user_id="u",
            parameters=query_pb2.ModelParameters(temperature=0.5),
            tools=[query_pb2.Tool(name="add", parameters_json='{"type":"object"}')],
            extra_json='{"x":1}',
            metadata_json='{"y":2}',
            request_id="r",
        ),
        background=True,
        idempotency_key="k",
        if_session_busy=query_pb2.SESSION_BUSY_POLICY_REJECT,
        budget=events_pb2.Budget(wall_time=to_duration(1.5), tool_calls=0),
        parent_run_id="p",
    )
    expected.timeout.FromSeconds(60)
    assert request == expected


def test_a_request_goes_as_it_is_with_a_key() -> None:
    given = query_pb2.QueryRequest(background=True)
    request = query_request(given)
    assert request.background
    assert request.idempotency_key
    assert not given.idempotency_key
    with pytest.raises(ValueError, match="agent"):
        query_request(given, agent="friday")


def test_texts_are_messages_among_others() -> None:
    assert to_messages(["hi", {"content": ["ho", {"text": "he"}]}]) == [
        user_message("hi"),
        events_pb2.Message(
            type=events_pb2.MESSAGE_TYPE_MESSAGE,
            role=events_pb2.ROLE_USER,
            content=[*user_message("ho").content, *user_message("he").content],
        ),
    ]
    assert to_messages(("hi", user_message("ho"))) == [user_message("hi"), user_message("ho")]
    assert to_messages({"content": {"text": "hi"}}) == [user_message("hi")]


@pytest.mark.parametrize(
    "wrong", [None, 5, b"hi", [None], [["hi"]], [("user", "hi")], {"content": [5]}, {"content": 5}]
)
def test_what_is_no_message_is_a_type_error_that_says_so(wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"a string, a dict or a|not iterable"):
        to_messages(wrong)


def test_a_content_without_its_value_says_what_it_lacks() -> None:
    with pytest.raises(ValueError, match="lacks 'image_url'"):
        to_messages({"content": [{"type": "image"}]})
