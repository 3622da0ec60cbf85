"""Items survive the conversion to messages and back."""

from typing import Any

import pytest

from portico.gateways.http.errors import BadRequest
from portico.gateways.openai.errors import OpenAiError
from portico.gateways.openai.responses.request.compaction import MAX_BYTES, compact, expand
from portico.gateways.openai.responses.request.input_items import InputItems
from portico.gateways.openai.responses.request.message_items import message_item
from portico.gateways.openai.responses.response_ids import own_call_id, sent_call_id
from portico.v1 import events_pb2 as pb
from portico.v1 import query_pb2

TEXT = {"type": "output_text", "text": "hi", "annotations": [{"type": "file_path"}], "logprobs": []}


def read(*items: Any) -> list[pb.Message]:
    request = query_pb2.AgentRequest()
    InputItems(request.input).read(list(items))
    return list(request.input)


@pytest.mark.parametrize(
    "item",
    [
        {"type": "message", "id": "m", "role": "assistant", "status": "completed", "content": [TEXT]},
        {
            "type": "message",
            "id": "m",
            "role": "assistant",
            "status": "incomplete",
            "phase": "commentary",
            "content": [{"type": "refusal", "refusal": "no"}],
        },
        {
            "type": "message",
            "id": "m",
            "role": "developer",
            "status": "completed",
            "content": [
                {"type": "input_text", "text": "a", "prompt_cache_breakpoint": {"mode": "explicit"}},
                {"type": "input_image", "image_url": "https://x/y.png", "detail": "low", "file_id": None},
                {"type": "input_image", "file_id": "file_1", "detail": "auto"},
                {"type": "input_file", "file_data": "UklG", "filename": "x.pdf", "detail": "high"},
                {"type": "input_audio", "input_audio": {"data": "UklG", "format": "wav"}},
                {"type": "computer_screenshot", "image_url": "https://x/y.png", "file_id": None},
            ],
        },
        {
            "type": "reasoning",
            "id": "r",
            "status": "completed",
            "summary": [{"type": "summary_text", "text": "short"}],
            "content": [{"type": "reasoning_text", "text": "long"}],
            "encrypted_content": "gAAA",
        },
        {
            "type": "function_call",
            "id": "f",
            "call_id": "c",
            "name": "n",
            "arguments": "{}",
            "namespace": "x",
            "status": "completed",
        },
        {
            "type": "custom_tool_call",
            "id": "f",
            "call_id": "c",
            "name": "n",
            "input": "x y",
            "status": "completed",
        },
        {"type": "function_call_output", "id": "f", "call_id": "c", "output": "x", "status": "completed"},
        {
            "type": "function_call_output",
            "id": "f",
            "call_id": "c",
            "status": "completed",
            "output": [{"type": "input_text", "text": "x"}],
        },
        {"type": "custom_tool_call_output", "id": "f", "call_id": "c", "output": "x", "status": "completed"},
        {
            "type": "mcp_call",
            "id": "f",
            "name": "n",
            "arguments": "{}",
            "server_label": "s",
            "output": "o",
            "error": None,
            "approval_request_id": None,
            "status": "completed",
        },
        {"type": "mcp_list_tools", "id": "f", "server_label": "s", "tools": [], "error": None},
        {"type": "mcp_approval_request", "id": "f", "server_label": "s", "name": "n", "arguments": "{}"},
        {
            "type": "mcp_approval_response",
            "id": "f",
            "approval_request_id": "a",
            "approve": True,
            "reason": None,
        },
        {"type": "web_search_call", "id": "w", "status": "completed", "action": {"type": "search"}},
        {"type": "shell_call_output", "id": "w", "call_id": "c", "output": [{"stdout": "x"}]},
    ],
)
def test_an_item_comes_back_as_it_was(item: dict[str, Any]) -> None:
    (message,) = read(item)
    back = message_item(message)
    for optional in ("status", "server_label"):
        if optional not in item:
            back.pop(optional, None)
    assert back == item


def test_short_messages_come_back_in_full() -> None:
    (message,) = read({"role": "user", "content": "hi"})
    assert message_item(message) == {
        "id": "",
        "type": "message",
        "role": "user",
        "status": "completed",
        "content": [{"type": "input_text", "text": "hi"}],
    }


def test_what_agents_say_themselves_has_an_item_too() -> None:
    call = pb.Message(id="m", type=pb.MESSAGE_TYPE_PLUGIN_CALL, role=pb.ROLE_ASSISTANT)
    call.content.add(data_json='{"call_id":"c","name":"n","arguments":"{}"}')
    assert message_item(call, "agent") == {
        "id": "m",
        "type": "mcp_call",
        "status": "completed",
        "server_label": "agent",
        "name": "n",
        "arguments": "{}",
        "output": None,
        "error": None,
    }
    picture = pb.Message(id="m", role=pb.ROLE_ASSISTANT)
    picture.content.add().image.image_url = "https://x/y.png"
    assert message_item(picture)["content"][0]["text"] == "![image](https://x/y.png)"


def test_a_call_id_that_was_told_apart_is_the_agents_own_again() -> None:
    told = sent_call_id("c", 2)
    assert told != "c"
    (message,) = read({"type": "function_call_output", "call_id": told, "output": "x"})
    assert '"call_id":"c"' in message.content[0].data_json


@pytest.mark.parametrize("call_id", ["c~2", "~1", "a~b~99", sent_call_id("c", 2), sent_call_id("c~2", 3)])
def test_a_call_id_that_looks_like_one_is_left_alone(call_id: str) -> None:
    sent = [sent_call_id(call_id, times) for times in (1, 2, 3)]
    assert len({*sent}) == 3
    assert {own_call_id(told) for told in sent} == {call_id}


def test_a_call_id_that_was_never_ours_is_left_alone() -> None:
    for call_id in ("call_7~12", "x~20000", "~"):
        (message,) = read({"type": "function_call_output", "call_id": call_id, "output": "x"})
        assert f'"call_id":"{call_id}"' in message.content[0].data_json


def test_a_compaction_expands_to_its_items() -> None:
    items = [{"type": "message", "role": "user", "content": "hi"}] * 3
    content = compact(items)
    assert expand({"encrypted_content": content}, "input[0]")[0] == items
    assert len(read({"type": "compaction", "encrypted_content": content})) == 3


def test_all_compactions_of_a_request_share_one_limit() -> None:
    half = compact([{"type": "message", "role": "user", "content": "x" * (MAX_BYTES // 2)}])
    item = {"type": "compaction", "encrypted_content": half}
    read(item)
    with pytest.raises(OpenAiError):
        read(item, item)


@pytest.mark.parametrize(
    "content",
    [
        None,
        "gAAA",
        "portico1.",
        "portico1.!",
        "portico1.AAAA",
        compact([{"type": "message"}])[:-8],
        compact([{"type": "compaction"}]),
        compact([{"x": "y" * MAX_BYTES}]),
    ],
)
def test_a_damaged_or_huge_compaction_is_refused(content: str | None) -> None:
    with pytest.raises(OpenAiError) as error:
        expand({"encrypted_content": content}, "input[0]")
    assert error.value.param == "input[0].encrypted_content"


@pytest.mark.parametrize(
    "item",
    [
        {"type": 3},
        {"type": "message", "role": "user", "content": [{"type": "input_text"}]},
        {"type": "message", "role": "user", "content": [{"type": "input_file"}]},
        {"type": "message", "role": "user", "content": [{"type": "input_audio"}]},
        {"type": "message", "role": "user", "content": [{"type": "input_image"}]},
        {"type": "message", "role": "user", "content": 3},
        {"type": "reasoning", "summary": 3},
        {"type": "mcp_approval_response", "approval_request_id": "a", "approve": "yes"},
        {"id": 3},
    ],
)
def test_what_is_wrong_is_refused(item: dict[str, Any]) -> None:
    with pytest.raises((OpenAiError, BadRequest)):
        read(item)
