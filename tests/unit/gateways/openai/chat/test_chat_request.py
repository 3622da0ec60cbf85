"""Conversion of messages of Chat Completions to the contract's messages."""

from typing import Any

import orjson
import pytest

from portico.gateways.openai.chat.chat_request import chat_request
from portico.gateways.openai.errors import OpenAiError
from portico.v1 import events_pb2 as pb

USER = {"role": "user", "content": "x"}


def read(*messages: dict[str, Any]) -> list[pb.Message]:
    return list(chat_request({"model": "m", "messages": list(messages)}).query.request.input)


def text(role: pb.Role.ValueType, said: str, **more: Any) -> pb.Message:
    content = [pb.Content(type=pb.CONTENT_TYPE_TEXT, text=said)]
    return pb.Message(type=pb.MESSAGE_TYPE_MESSAGE, role=role, content=content, **more)


def test_roles() -> None:
    messages = read(
        {"role": "system", "content": "s"},
        {"role": "developer", "content": "d"},
        {"role": "user", "content": "u"},
        {"role": "assistant", "content": "a"},
    )
    assert messages == [
        text(pb.ROLE_SYSTEM, "s"),
        text(pb.ROLE_SYSTEM, "d"),
        text(pb.ROLE_USER, "u"),
        text(pb.ROLE_ASSISTANT, "a"),
    ]


def test_what_a_message_cannot_hold_is_its_metadata() -> None:
    part = {"type": "image_url", "image_url": {"url": "https://x", "detail": "high"}}
    (message,) = read({"role": "user", "name": "anna", "content": [part]})
    assert message.content[0].image.image_url == "https://x"
    assert orjson.loads(message.metadata_json) == {"name": "anna", "parts": {"0": {"detail": "high"}}}


def test_parts() -> None:
    (message,) = read(
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "t"},
                {"type": "image_url", "image_url": "data:image/png;base64,AA"},
                {"type": "video_url", "video_url": {"url": "https://v"}},
                {"type": "input_audio", "input_audio": {"data": "AA", "format": "mp3"}},
                {"type": "file", "file": {"file_id": "f1"}},
                {"type": "file", "file": {"file_data": "AA", "filename": "a"}},
                {"type": "refusal", "refusal": "no"},
            ],
        }
    )
    kinds = [content.WhichOneof("value") for content in message.content]
    assert kinds == ["text", "image", "video", "audio", "file", "file", "refusal"]
    assert [content.index for content in message.content] == list(range(7))
    assert message.content[4].file.file_id == "f1"
    assert message.content[5].file.file_data == "AA"


def test_calls_and_their_results() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    custom = {"id": "c2", "type": "custom", "custom": {"name": "g", "input": "print()"}}
    messages = read(
        USER,
        {"role": "assistant", "content": None, "tool_calls": [call, custom]},
        {"role": "tool", "tool_call_id": "c1", "content": "1"},
        {
            "role": "tool",
            "tool_call_id": "c2",
            "content": [{"type": "text", "text": "2"}, {"type": "text", "text": "3"}],
        },
    )[1:]
    kinds = [pb.MESSAGE_TYPE_FUNCTION_CALL] * 2 + [pb.MESSAGE_TYPE_FUNCTION_CALL_OUTPUT] * 2
    assert [message.type for message in messages] == kinds
    assert [message.role for message in messages] == [pb.ROLE_ASSISTANT] * 2 + [pb.ROLE_TOOL] * 2
    assert [orjson.loads(message.content[0].data_json) for message in messages] == [
        {"call_id": "c1", "name": "f", "arguments": "{}"},
        {"call_id": "c2", "name": "g", "arguments": "print()"},
        {"call_id": "c1", "name": "f", "output": "1"},
        {"call_id": "c2", "name": "g", "output": "23"},
    ]


def test_functions_as_they_were_before_tools() -> None:
    messages = read(
        USER,
        {"role": "assistant", "content": "", "function_call": {"name": "f", "arguments": "{}"}},
        {"role": "function", "name": "f", "content": "1"},
    )
    assert orjson.loads(messages[-2].content[0].data_json) == {"call_id": "f", "name": "f", "arguments": "{}"}
    assert orjson.loads(messages[-1].content[0].data_json) == {"call_id": "f", "name": "f", "output": "1"}


def test_an_output_that_is_more_than_text() -> None:
    parts = [{"type": "image_url", "image_url": {"url": "https://x"}}]
    (message,) = read({"role": "tool", "tool_call_id": "c", "content": parts})
    assert orjson.loads(orjson.loads(message.content[0].data_json)["output"]) == parts


def test_thoughts_and_refusals_that_come_back() -> None:
    messages = read({"role": "assistant", "reasoning_content": "hm", "content": None, "refusal": "no"})
    assert [message.type for message in messages] == [pb.MESSAGE_TYPE_REASONING, pb.MESSAGE_TYPE_MESSAGE]
    assert messages[0].content[0].text == "hm"
    assert messages[1].content[0].refusal == "no"


def test_it_is_kept_only_when_asked_for() -> None:
    asked = {"model": "m", "messages": [USER]}
    assert chat_request(asked).query.ephemeral
    assert chat_request({**asked, "store": False}).query.ephemeral
    assert chat_request({**asked, "store": None}).query.ephemeral
    assert not chat_request({**asked, "store": True}).query.ephemeral


def test_whom_it_is_from() -> None:
    asked = {"model": "m", "messages": [USER], "safety_identifier": "s"}
    assert chat_request(asked).query.request.user_id == "s"
    assert chat_request({**asked, "user": "u"}).query.request.user_id == "u"


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ("x", "messages[0]"),
        ({"role": "user", "content": 1}, "messages[0].content"),
        ({"role": "user", "content": ["x"]}, "messages[0].content[0]"),
        ({"role": "user", "content": [{}]}, "messages[0].content[0].type"),
        ({"role": "user", "content": [{"type": "text"}]}, "messages[0].content[0].text"),
        ({"role": "user", "content": [{"type": "file"}]}, "messages[0].content[0].file"),
        (
            {"role": "user", "content": [{"type": "file", "file": {}}]},
            "messages[0].content[0].file.file_data",
        ),
        ({"role": "assistant", "tool_calls": {}}, "messages[0].tool_calls"),
        ({"role": "assistant", "tool_calls": [{}]}, "messages[0].tool_calls[0].function"),
        (
            {"role": "assistant", "tool_calls": [{"function": {"name": "f"}}]},
            "messages[0].tool_calls[0].id",
        ),
        (
            {"role": "assistant", "tool_calls": [{"id": "1", "function": {}}]},
            "messages[0].tool_calls[0].function.name",
        ),
        ({"role": "assistant"}, "messages"),
        ({"role": "function", "content": "x"}, "messages[0].name"),
    ],
)
def test_what_is_wrong_is_named(message: Any, param: str) -> None:
    with pytest.raises(OpenAiError) as refused:
        read(message)
    assert (refused.value.status, refused.value.param) == (400, param)
    assert param in refused.value.message
