"""The exact JSON of each kind of event, with AgentScope Runtime's fields in its order."""

from typing import Any

import orjson
import pytest

from portico.gateways.sse.event_encoding import EventEncoder, dumps, event_json, usage_json
from portico.v1 import events_pb2 as pb
from portico.v1 import query_pb2

TEXT = pb.CONTENT_TYPE_TEXT
IN_PROGRESS = pb.RUN_STATUS_IN_PROGRESS
COMPLETED = pb.RUN_STATUS_COMPLETED


def response(status: pb.RunStatus.ValueType, **more: Any) -> pb.Response:
    value = pb.Response(id="resp_1", status=status, session_id="s-text", user_id="u", attempt=1, **more)
    value.created_time.seconds = 1795247178
    return value


def message(**more: Any) -> pb.Message:
    fields = {"id": "msg_1", "type": pb.MESSAGE_TYPE_MESSAGE, "role": pb.ROLE_ASSISTANT, **more}
    return pb.Message(**fields)


def delta(text: str, **more: Any) -> pb.Content:
    fields = {"type": TEXT, "status": IN_PROGRESS, "delta": True, "msg_id": "msg_1", "text": text, **more}
    return pb.Content(**fields)


def whole(**more: Any) -> pb.Content:
    return pb.Content(**{"status": COMPLETED, "msg_id": "msg_1", **more})


def one(number: int, **given: Any) -> str:
    """Returns the `data:` of one event."""
    events = [pb.Event(sequence_number=number, **given)]
    body = EventEncoder().encode([query_pb2.StreamFrame(events=events)]).decode()
    start = f"id: {number}\ndata: "
    assert body.startswith(start)
    assert body.endswith("\n\n")
    return body.removeprefix(start).removesuffix("\n\n")


CALL = '{"call_id":"call_1","name":"get_weather","arguments":"{\\"city\\": \\"Paris\\"}"}'
CONTENT_6 = (
    '{"sequence_number":6,"object":"content","status":"completed","error":null,"type":"text","index":0,'
    '"delta":null,"msg_id":"msg_1","text":"The capital is Paris."}'
)
MESSAGE_7 = (
    '{"sequence_number":7,"object":"message","status":"completed","error":null,"id":"msg_1",'
    '"type":"message","role":"assistant","content":[' + CONTENT_6 + '],"code":null,"message":null,'
    '"usage":null,"metadata":{}}'
)


def test_a_response_that_begins() -> None:
    assert one(0, response=response(pb.RUN_STATUS_CREATED)) == (
        '{"sequence_number":0,"object":"response","status":"created","error":null,"id":"resp_1",'
        '"created_at":1795247178,"completed_at":null,"output":null,"usage":null,"session_id":"s-text"}'
    )


def test_a_response_that_ended_has_its_messages_and_they_their_contents() -> None:
    ended = response(COMPLETED)
    ended.completed_time.seconds = 1795247179
    content = whole(type=TEXT, text="The capital is Paris.", sequence_number=6)
    ended.output.append(message(status=COMPLETED, content=[content], sequence_number=7))
    assert one(8, response=ended) == (
        '{"sequence_number":8,"object":"response","status":"completed","error":null,"id":"resp_1",'
        '"created_at":1795247178,"completed_at":1795247179,"output":['
        + MESSAGE_7
        + '],"usage":null,"session_id":"s-text"}'
    )


def test_a_response_that_ended_without_a_word_has_an_empty_list() -> None:
    assert '"output":[],"usage":null' in one(2, response=response(COMPLETED))


def test_a_response_that_failed() -> None:
    failed = response(pb.RUN_STATUS_FAILED)
    failed.error.code = "AGENT_UNKNOWN_ERROR"
    failed.error.message = "Unknown agent error: ValueError: boom"
    assert one(4, response=failed).startswith(
        '{"sequence_number":4,"object":"response","status":"failed","error":{"code":"AGENT_UNKNOWN_ERROR",'
        '"message":"Unknown agent error: ValueError: boom"},"id":"resp_1"'
    )


def test_what_the_reference_does_not_have_stands_last_and_only_when_it_says_something() -> None:
    paused = response(pb.RUN_STATUS_INPUT_REQUIRED, metadata_json='{"a":1}')
    paused.attempt = 2
    paused.input_request.id = "input_1"
    paused.input_request.prompt = "Which city?"
    paused.input_request.schema_json = '{"type":"string"}'
    assert one(3, response=paused).endswith(
        '"session_id":"s-text","attempt":2,"input_request":{"id":"input_1","prompt":"Which city?",'
        '"schema":{"type":"string"}},"metadata":{"a":1}}'
    )


def test_a_message_that_opens() -> None:
    assert one(2, message=message(status=IN_PROGRESS)) == (
        '{"sequence_number":2,"object":"message","status":"in_progress","error":null,"id":"msg_1",'
        '"type":"message","role":"assistant","content":null,"code":null,"message":null,"usage":null,'
        '"metadata":{}}'
    )


def test_a_message_that_is_complete() -> None:
    content = whole(type=TEXT, text="The capital is Paris.", sequence_number=6)
    assert one(7, message=message(status=COMPLETED, content=[content])) == MESSAGE_7


def test_a_message_that_failed_has_its_code_twice_as_in_the_reference() -> None:
    error = pb.Error(code="c", message="m")
    text = one(7, message=message(status=pb.RUN_STATUS_INCOMPLETE, error=error))
    assert '"status":"incomplete","error":{"code":"c","message":"m"}' in text
    assert '"content":[],"code":"c","message":"m","usage":null' in text


def test_a_text_delta() -> None:
    assert one(3, content=delta("The")) == (
        '{"sequence_number":3,"object":"content","status":"in_progress","error":null,"type":"text",'
        '"index":0,"delta":true,"msg_id":"msg_1","text":"The"}'
    )


@pytest.mark.parametrize(
    "text", ["", '"\\', "\n\r\n", "\u2028\u2029\x85", "😀", "\0\x1f\x7f", "</script>", "data: x\n\nid: 9"]
)
def test_text_never_breaks_its_line(text: str) -> None:
    encoded = one(3, content=delta(text))
    assert "\n" not in encoded
    assert "\r" not in encoded
    assert orjson.loads(encoded)["text"] == text


def test_a_complete_text() -> None:
    assert one(6, content=whole(type=TEXT, text="The capital is Paris.")) == CONTENT_6


@pytest.mark.parametrize(
    ("content", "fields"),
    [
        ({"data_json": CALL, "type": pb.CONTENT_TYPE_DATA}, f'"type":"data",,"data":{CALL}'),
        (
            {"image": pb.ImageContent(image_url="https://e.com/a.png"), "type": pb.CONTENT_TYPE_IMAGE},
            '"type":"image",,"image_url":"https://e.com/a.png"',
        ),
        (
            {"audio": pb.AudioContent(data="QQ==", format="wav"), "type": pb.CONTENT_TYPE_AUDIO},
            '"type":"audio",,"data":"QQ==","format":"wav"',
        ),
        (
            {"file": pb.FileContent(file_id="f", filename="a.txt"), "type": pb.CONTENT_TYPE_FILE},
            '"type":"file",,"file_url":null,"file_id":"f","filename":"a.txt","file_data":null',
        ),
        ({"refusal": "No.", "type": pb.CONTENT_TYPE_REFUSAL}, '"type":"refusal",,"refusal":"No."'),
        (
            {"video": pb.VideoContent(video_url="https://e.com/v"), "type": pb.CONTENT_TYPE_VIDEO},
            '"type":"video",,"video_url":"https://e.com/v"',
        ),
        ({"data_json": "{}"}, '"type":"data",,"data":{}'),
    ],
)
def test_other_contents(content: dict[str, Any], fields: str) -> None:
    kind, told = fields.split(",,")
    assert one(5, content=whole(**content)) == (
        '{"sequence_number":5,"object":"content","status":"completed","error":null,'
        f'{kind},"index":0,"delta":false,"msg_id":"msg_1",{told}}}'
    )


def test_stored_json_goes_out_as_it_stands() -> None:
    """Even nested as deeply as input may be, with all digits, on one line."""
    deep = orjson.dumps(orjson.loads('{"a":' * 254 + "1" + "}" * 254)).decode()
    content = whole(data_json=deep, type=pb.CONTENT_TYPE_DATA, sequence_number=3)
    ended = response(COMPLETED, metadata_json='{"n": 123456789012345678901234567890}')
    ended.output.append(message(status=COMPLETED, content=[content], metadata_json='{\r\n"a":\n"\u2028"}'))
    text = one(8, response=ended)
    assert f'"data":{deep}}}' in text
    assert text.endswith('"metadata":{"n": 123456789012345678901234567890}}')
    assert '"metadata":{  "a": "\u2028"}}' in text


def test_an_announced_call_is_no_delta() -> None:
    data = '{"call_id":"call_1","name":"get_weather","arguments":""}'
    content = whole(status=IN_PROGRESS, type=pb.CONTENT_TYPE_DATA, data_json=data)
    assert one(3, content=content) == (
        '{"sequence_number":3,"object":"content","status":"in_progress","error":null,"type":"data",'
        f'"index":0,"delta":false,"msg_id":"msg_1","data":{data}}}'
    )


def test_the_shortcut_for_deltas_says_what_the_long_way_says() -> None:
    """Interleaved messages and indexes, in one frame and over several frames of one encoder."""
    contents = [
        delta("a"),
        delta("b"),
        delta("c", index=1),
        delta("d", msg_id="msg_2", index=1),
        delta("e", msg_id="msg_2"),
        delta("f"),
        whole(type=TEXT, text="g"),
        delta("h", msg_id='we"ird\n'),
    ]
    events = [pb.Event(sequence_number=number, content=content) for number, content in enumerate(contents)]
    encoder = EventEncoder()
    body = b"".join(
        encoder.encode([query_pb2.StreamFrame(events=part)]) for part in (events[:3], events[3:5], events[5:])
    )
    assert body == b"".join(
        b"id: %d\ndata: %b\n\n" % (event.sequence_number, dumps(event_json(event))) for event in events
    )


def test_frames_without_events_are_nothing() -> None:
    assert EventEncoder().encode([query_pb2.StreamFrame()]) == b""


def test_roles_and_types_have_the_references_words() -> None:
    opened = message(status=IN_PROGRESS, type=pb.MESSAGE_TYPE_PLUGIN_CALL_OUTPUT, role=pb.ROLE_TOOL)
    assert '"type":"plugin_call_output","role":"tool"' in one(7, message=opened)
    assert '"status":"created"' in one(0, message=pb.Message(id="m"))
    assert '"type":"message","role":null' in one(0, message=pb.Message(id="m"))


def test_words_of_a_newer_core_are_unknown_and_break_nothing() -> None:
    newer = pb.Event.FromString(pb.Event(content=pb.Content(text="x")).SerializeToString())
    newer.content.MergeFromString(b"\x08\x63\x10\x63")  # type and status 99
    told = event_json(newer)
    assert (told["type"], told["status"]) == ("unknown", "unknown")
    assert event_json(pb.Event(sequence_number=4)) == {"sequence_number": 4, "object": "unknown"}


def test_usage_begins_with_the_references_counts() -> None:
    details = '{"time":1,"input_tokens":9}'
    usage = pb.Usage(input_tokens=3, output_tokens=2, total_tokens=5, details_json=details)
    assert list(usage_json(usage).items()) == [
        ("input_tokens", 3),
        ("output_tokens", 2),
        ("total_tokens", 5),
        ("time", 1),
    ]
    usage.cached_input_tokens = 1
    usage.reasoning_output_tokens = 1
    assert usage_json(usage)["cached_input_tokens"] == usage_json(usage)["reasoning_output_tokens"] == 1
