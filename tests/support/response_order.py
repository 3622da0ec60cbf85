"""Checks the order rules of a Responses stream on its raw events."""

import json
from typing import Any

from openai import omit
from openai._models import construct_type_unchecked
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.responses import ResponseStreamEvent

TERMINAL = ("response.completed", "response.failed", "response.incomplete")
LIFECYCLE = ("response.created", "response.queued", "response.in_progress", *TERMINAL)
_EVENT: Any = ResponseStreamEvent
_PARTS = {
    "response.content_part.added": "content_index",
    "response.reasoning_summary_part.added": "summary_index",
}


def read_frames(body: bytes) -> list[dict[str, Any]]:
    """Returns the events of a stream's body, and checks its format."""
    *frames, done, rest = body.split(b"\n\n")
    assert (done, rest) == (b"data: [DONE]", b"")
    events = []
    for frame in frames:
        name, data = frame.split(b"\n")
        event = json.loads(data.removeprefix(b"data: "))
        assert name == b"event: " + event["type"].encode()
        events.append(event)
    return events


def check_order(events: list[dict[str, Any]]) -> dict[str, Any]:
    """Returns the response of the terminal event. Raises AssertionError, or exceptions of the SDK."""
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert events[0]["type"] == "response.created"
    assert [event["type"] for event in events if event["type"] in TERMINAL] == [events[-1]["type"]]
    assert len({event["response"]["id"] for event in events if "response" in event}) == 1
    open_items: dict[int, dict[str, Any]] = {}
    done_items: dict[int, dict[str, Any]] = {}
    parts: dict[tuple[int, int], str | None] = {}  # the text so far; None when complete
    for event in events:
        kind = event["type"]
        index = event.get("output_index")
        if kind in LIFECYCLE:
            continue
        assert isinstance(index, int)
        if kind == "response.output_item.added":
            assert index == len(open_items) + len(done_items), "indexes are dense"
            open_items[index] = event["item"]
            continue
        added = open_items[index]
        if kind == "response.output_item.done":
            item = event["item"]
            for name in ("type", "id", "call_id"):
                assert item.get(name) == added.get(name)
            assert item.get("status") != "in_progress"
            assert all(text is None for (owner, _), text in parts.items() if owner == index)
            done_items[index] = open_items.pop(index)
            continue
        assert event["item_id"] == added["id"]
        _check_part(kind, event, index, parts)
    assert not open_items
    _by_the_sdk(events)
    final = events[-1]["response"]
    identities = [
        (item["type"], None if item["type"].endswith("_call") else item["id"], item.get("call_id"))
        for item in final["output"]
        if item["type"] != "mcp_call"
    ]
    assert len(set(identities)) == len(identities)
    assert all(item["id"] in {done["id"] for done in done_items.values()} for item in final["output"])
    result: dict[str, Any] = final
    return result


def _check_part(
    kind: str, event: dict[str, Any], index: int, parts: dict[tuple[int, int], str | None]
) -> None:
    if kind in _PARTS:
        place = (index, event[_PARTS[kind]])
        assert place not in parts
        assert place[1] == sum(1 for owner, _ in parts if owner == index)
        assert all(text is None for (owner, _), text in parts.items() if owner == index)
        parts[place] = ""
        return
    number = event.get("content_index", event.get("summary_index"))
    if number is None:
        if kind.endswith((".delta", "arguments.done", "input.done")):
            _call(event, parts)
        return
    place = (index, number)
    if kind.endswith(".delta"):
        parts[place] = parts[place] + event["delta"]
    elif kind.endswith("part.done"):
        part = event["part"]
        assert (part.get("text") if "text" in part else part["refusal"]) == parts[place]
        parts[place] = None
    else:
        assert (event["text"] if "text" in event else event["refusal"]) == parts[place]


def _call(event: dict[str, Any], parts: dict[tuple[int, int], str | None]) -> None:
    """The pieces of a call's arguments add up to the arguments in the done event."""
    place = (event["output_index"], -1)
    if "delta" in event:
        parts[place] = (parts.get(place) or "") + event["delta"]
    else:
        assert parts.pop(place) == event["arguments" if "arguments" in event else "input"]


def _by_the_sdk(events: list[dict[str, Any]]) -> None:
    state: Any = ResponseStreamState(input_tools=[], text_format=omit)
    for event in events:
        state.handle_event(construct_type_unchecked(type_=_EVENT, value=event))
