"""Request bodies: any JSON is either a valid request or refused with the path; valid ones lose nothing."""

from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from portico.gateways.http.errors import BadRequest
from portico.gateways.http.request.body_fields import load
from portico.gateways.sse.event_encoding import content_json, dumps
from portico.gateways.sse.request_decoding import query_request, read_required_input, wants_stream
from portico.v1 import events_pb2, query_pb2, session_pb2

GOOD: dict[str, Any] = {
    "input": [
        {
            "role": "user",
            "type": "message",
            "id": "m",
            "metadata": {"a": 1},
            "content": [
                {"type": "text", "text": "hi"},
                {"type": "data", "data": {"x": [1, None]}},
                {"type": "image", "image_url": "https://e.com/a.png"},
                {"type": "audio", "data": "QQ==", "format": "wav"},
                {"type": "file", "filename": "a", "file_id": "f"},
                {"type": "refusal", "refusal": "no"},
                {"type": "video", "video_url": "https://e.com/v"},
            ],
        }
    ]
}
TEXT = [{"role": "user", "content": [{"type": "text", "text": "x"}]}]

numbers = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False)
scalars = st.none() | st.booleans() | numbers | st.text()
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
KINDS = ["text", "data", "image", "audio", "file", "refusal", "video"]
contents = st.lists(
    anything
    | st.fixed_dictionaries(
        {"type": st.sampled_from(KINDS) | anything},
        optional=dict.fromkeys(("text", "data", "image_url", "file_id", "refusal", "format"), anything),
    ),
    max_size=3,
)
messages = st.lists(
    anything
    | st.fixed_dictionaries(
        {},
        optional={
            "role": st.sampled_from(["user", "tool"]) | anything,
            "type": st.sampled_from(["message", "reasoning"]) | anything,
            "status": st.sampled_from(["completed"]) | anything,
            "content": contents | anything,
            "metadata": anything,
            "id": anything,
        },
    ),
    max_size=3,
)
FIELDS = (
    *("stream", "id", "model", "stop", "session_id", "user_id", "agent", "metadata", "background", "timeout"),
    *("idempotency_key", "if_session_busy", "top_p", "max_tokens", "seed", "n", "more"),
)
bodies = st.fixed_dictionaries(
    {},
    optional={
        "input": messages | anything,
        "tools": anything | st.lists(st.fixed_dictionaries({"name": st.text(), "function": anything})),
        **dict.fromkeys(FIELDS, anything),
    },
)


def refusal(work: Callable[[], object]) -> BadRequest | None:
    """Returns the refusal; any other exception fails the test."""
    try:
        work()
    except BadRequest as refused:
        return refused
    return None


@given(bodies)
def test_any_object_is_a_request_or_refused_with_its_place(body: dict[str, Any]) -> None:
    try:
        raw = orjson.dumps(body)
    except orjson.JSONEncodeError:  # lone surrogates
        return
    loaded = load(raw)
    for refused in (refusal(lambda: wants_stream(loaded)), refusal(lambda: query_request(loaded))):
        if refused is not None:
            assert refused.status == 422
            assert refused.message.startswith(f"{refused.field}: ")


@given(st.binary() | anything.map(str).map(str.encode))
def test_any_bytes_are_an_object_or_refused(raw: bytes) -> None:
    refused = refusal(lambda: load(raw))
    assert refused is None or refused.status in (400, 422)


def test_a_good_message_comes_back_as_it_went() -> None:
    (message,) = query_request(GOOD).request.input
    assert message.role == events_pb2.ROLE_USER
    assert message.metadata_json == '{"a":1}'
    said = GOOD["input"][0]["content"]
    for index, (content, given_content) in enumerate(zip(message.content, said, strict=True)):
        told = orjson.loads(dumps(content_json(content)))
        assert {name: told[name] for name in given_content} == given_content
        assert told["index"] == index


def test_every_field_has_its_place() -> None:
    query = query_request(
        {
            "input": TEXT,
            "id": "mine",
            "session_id": "s",
            "user_id": "u",
            "agent": "a",
            "model": "m",
            "top_p": 0.5,
            "temperature": 1,
            "frequency_penalty": 0,
            "presence_penalty": -1.5,
            "n": 2,
            "max_tokens": 7,
            "seed": 2**40,
            "stop": "END",
            "metadata": {"k": "v"},
            "background": True,
            "idempotency_key": "key",
            "if_session_busy": "reject",
            "timeout": 1.5,
            "own": [1],
            "more": None,
        }
    )
    request = query.request
    parameters = request.parameters
    assert (request.request_id, request.session_id, request.user_id) == ("mine", "s", "u")
    assert (request.agent_name, request.metadata_json) == ("a", '{"k":"v"}')
    assert orjson.loads(request.extra_json) == {"own": [1], "more": None}
    assert (parameters.model, parameters.top_p, parameters.temperature) == ("m", 0.5, 1.0)
    assert (parameters.frequency_penalty, parameters.presence_penalty) == (0.0, -1.5)
    assert (parameters.max_tokens, parameters.n, parameters.seed) == (7, 2, 2**40)
    assert parameters.stop == ["END"]
    assert (query.background, query.idempotency_key) == (True, "key")
    assert query.if_session_busy == query_pb2.SESSION_BUSY_POLICY_REJECT
    assert query.timeout.ToNanoseconds() == 1_500_000_000


def test_what_is_null_or_left_out_is_not_set() -> None:
    nothing = {name: None for name in FIELDS if name != "more"}
    query = query_request({"input": TEXT, "tools": None, **nothing})
    assert query == query_request({"input": TEXT})
    assert not query.request.HasField("parameters")
    assert wants_stream(nothing) is True


@pytest.mark.parametrize("content", ["hi", [{"type": "text", "text": "hi"}]])
def test_a_text_may_stand_for_contents(content: Any) -> None:
    (message,) = query_request({"input": [{"role": "user", "content": content}]}).request.input
    assert message.content[0].text == "hi"
    (message,) = query_request({"input": "hi"}).request.input
    assert (message.role, message.content[0].text) == (events_pb2.ROLE_USER, "hi")


@pytest.mark.parametrize("wrapped", [True, False])
def test_tools_in_either_shape(wrapped: bool) -> None:
    function = {"name": "add", "description": "adds", "parameters": {"type": "object"}}
    given_tool = {"type": "function", "function": function} if wrapped else {"type": "function", **function}
    (tool,) = query_request({"input": TEXT, "tools": [given_tool]}).request.tools
    assert (tool.name, tool.description, tool.type) == ("add", "adds", "function")
    assert tool.parameters_json == '{"type":"object"}'
    assert orjson.loads(tool.raw_json) == given_tool


def _message(**fields: Any) -> dict[str, Any]:
    return {"input": [*TEXT, fields]}


def _part(**fields: Any) -> dict[str, Any]:
    return {"input": [{"role": "user", "content": [{"type": "text", "text": "x"}, fields]}]}


def deep(depth: int) -> Any:
    return orjson.loads(b"[" * depth + b"]" * depth)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "input"),
        ({"input": None}, "input"),
        ({"input": {}}, "input"),
        ({"input": ["x"]}, "input[0]"),
        (_message(role="boss"), "input[1].role"),
        (_message(role=deep(1000)), "input[1].role"),
        (_message(type="smell"), "input[1].type"),
        (_message(status="odd"), "input[1].status"),
        (_message(id=1), "input[1].id"),
        (_message(metadata=[]), "input[1].metadata"),
        (_message(metadata={"a": deep(300)}), "input[1].metadata"),
        (_message(content=1), "input[1].content"),
        (_message(content=["x"]), "input[1].content[0]"),
        (_part(type="smell"), "input[0].content[1].type"),
        (_part(), "input[0].content[1].type"),
        (_part(type="text"), "input[0].content[1].text"),
        (_part(type="text", text=1), "input[0].content[1].text"),
        (_part(type="data", data="x"), "input[0].content[1].data"),
        (_part(type="image", image_url={"url": "x"}), "input[0].content[1].image_url"),
        (_part(type="file", filename=1), "input[0].content[1].filename"),
        ({"input": TEXT, "session_id": 1}, "session_id"),
        ({"input": TEXT, "top_p": "x"}, "top_p"),
        ({"input": TEXT, "top_p": True}, "top_p"),
        ({"input": TEXT, "max_tokens": 1.5}, "max_tokens"),
        ({"input": TEXT, "max_tokens": 2**31}, "max_tokens"),
        ({"input": TEXT, "seed": 2**63}, "seed"),
        ({"input": TEXT, "stop": [1]}, "stop"),
        ({"input": TEXT, "tools": {}}, "tools"),
        ({"input": TEXT, "tools": ["x"]}, "tools[0]"),
        ({"input": TEXT, "tools": [{"function": {}}]}, "tools[0].name"),
        ({"input": TEXT, "tools": [{"name": "x", "parameters": []}]}, "tools[0].parameters"),
        ({"input": TEXT, "metadata": "x"}, "metadata"),
        ({"input": TEXT, "background": 1}, "background"),
        ({"input": TEXT, "timeout": 0}, "timeout"),
        ({"input": TEXT, "timeout": 1e200}, "timeout"),
        ({"input": TEXT, "if_session_busy": "panic"}, "if_session_busy"),
        ({"input": TEXT, "own": deep(300)}, "own"),
    ],
)
def test_a_refusal_names_the_place(body: dict[str, Any], field: str) -> None:
    with pytest.raises(BadRequest) as caught:
        query_request(body)
    assert (caught.value.status, caught.value.field) == (422, field)
    assert caught.value.message.startswith(f"{field}: ")
    assert len(caught.value.message) < 400


def test_stream_is_true_or_false() -> None:
    assert wants_stream({"stream": False}) is False
    with pytest.raises(BadRequest):
        wants_stream({"stream": "no"})


@pytest.mark.parametrize("body", [b"", b"nope", b"{", b'{"a": NaN}', b'{"a": "\\ud800"}', b"\xff"])
def test_what_is_not_json_is_400(body: bytes) -> None:
    with pytest.raises(BadRequest) as caught:
        load(body)
    assert caught.value.status == 400


def test_messages_of_other_bodies_are_read_alike() -> None:
    request = session_pb2.AppendMessagesRequest()
    read_required_input({"messages": TEXT}, "messages", request.messages)
    assert request.messages[0].content[0].text == "x"
    with pytest.raises(BadRequest) as caught:
        read_required_input({"messages": [1]}, "messages", request.messages)
    assert caught.value.field == "messages[0]"
