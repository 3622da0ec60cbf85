"""Portico says what AgentScope Runtime says: the same events, in the same order, with the same fields.

Both serve the same scripts and get the same requests. Ids and times are replaced; everything else
must be equal: the order of events and of their fields, types, roles, statuses, numbers, texts. Where
the reference is wrong, DIFFERENCES names what Portico does instead, as a change of the reference's
events; it is applied before the comparison, and a change that changes nothing fails.
"""

import json
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

import httpx
import pytest

Event = dict[str, Any]
Change = Callable[[list[Event]], list[Event]]

pytestmark = [pytest.mark.peer, pytest.mark.xdist_group("peer"), pytest.mark.timeout(180)]


def announced_calls_have_an_index(events: list[Event]) -> list[Event]:
    """The reference announces a call that comes in one piece with index null."""
    for event in events:
        if event["object"] == "content" and event["index"] is None:
            event["index"] = 0
    return events


def calls_are_announced_once(events: list[Event]) -> list[Event]:
    """The reference also sends the arguments while a model writes them; Portico's agents make whole calls."""
    return [
        event
        for event in events
        if not (
            event["object"] == "content"
            and event["type"] == "data"
            and event["status"] == "in_progress"
            and event["data"].get("arguments")
        )
    ]


def messages_hold_their_contents(events: list[Event]) -> list[Event]:
    """In the reference a call's message holds its content without number, index, message id and status."""
    return renumbered(events)


def one_message_at_a_time(events: list[Event]) -> list[Event]:
    """The reference leaves reasoning open beside the text, and its end breaks the text into two contents."""
    changed = []
    for opened in [event for event in events if event["object"] == "message" and event["content"] is None]:
        of_message = [event for event in events if event.get("msg_id") == opened["id"]]
        deltas = [{**event, "index": 0} for event in of_message if event["delta"]]
        text = "".join(delta["text"] for delta in deltas)
        closed = next(e for e in events if e.get("id") == opened["id"] and e["status"] == "completed")
        changed += [
            opened,
            *deltas,
            {**deltas[-1], "status": "completed", "delta": None, "text": text},
            closed,
        ]
    return [*events[:2], *changed, events[-1]]


def metadata_is_an_object(events: list[Event]) -> list[Event]:
    """The reference's adapters write {}, its builder writes null."""
    for event in events:
        if event["object"] == "message":
            event["metadata"] = {}
    return events


def pictures_come_whole(events: list[Event]) -> list[Event]:
    """The reference sends a picture as a delta, never completes it and leaves it out of the output."""
    opened, content, ended = events[-3:]
    return [*events[:-2], *closed("completed", opened, {**content, "delta": False}), ended]


def what_was_said_is_kept(events: list[Event]) -> list[Event]:
    """The reference leaves what a failed run has said open, and out of the output."""
    opened, content, ended = events[-3:]
    return [*events[:-1], *closed("incomplete", opened, {**content, "delta": None}), ended]


def failures_have_a_time(events: list[Event]) -> list[Event]:
    """The reference says of a failed run not when it ended."""
    events[-1]["completed_at"] = events[-1]["created_at"]
    return events


DIFFERENCES: dict[str, Sequence[Change]] = {
    "text": (),
    "whole_text": (),
    "tool": (announced_calls_have_an_index, messages_hold_their_contents),
    "tool_in_chunks": (calls_are_announced_once, messages_hold_their_contents),
    "mcp_tool": (announced_calls_have_an_index, messages_hold_their_contents),
    "text_then_tool": (announced_calls_have_an_index, messages_hold_their_contents),
    "reasoning": (),
    "thinking": (one_message_at_a_time,),
    "data": (metadata_is_an_object,),
    "messages": (),
    "image": (pictures_come_whole,),
    "empty": (),
    "error": (what_was_said_is_kept, failures_have_a_time),
}

# Bodies that are no request, and the status that the reference answers with: for most of them 200, with
# an error instead of events. Portico refuses every one.
BAD_BODIES: Sequence[tuple[str, int]] = (
    ("{}", 200),
    ('{"input": [{"role": "boss", "content": [{"type": "text", "text": "text"}]}]}', 200),
    ('{"input": [{"role": "user", "content": [{"type": "smell", "text": "text"}]}]}', 200),
    ("nope", 422),
    ("[]", 422),
)


@pytest.mark.parametrize("script", DIFFERENCES)
def test_events_are_the_references(peer: httpx.Client, portico: httpx.Client, script: str) -> None:
    expected = ask(peer, script)
    for change in DIFFERENCES[script]:
        changed = change(deepcopy(expected))
        assert changed != expected, f"{change.__name__} is no difference any more"
        expected = changed
    assert plain(ask(portico, script)) == plain(renumbered(expected))


@pytest.mark.parametrize("script", [script for script, changes in DIFFERENCES.items() if not changes])
def test_what_should_be_equal_is_compared_as_it_comes(peer: httpx.Client, script: str) -> None:
    events = ask(peer, script)
    assert plain(renumbered(deepcopy(events))) == plain(events)


@pytest.mark.parametrize(("body", "status"), BAD_BODIES)
def test_bad_input_is_an_error_status(
    peer: httpx.Client, portico: httpx.Client, body: str, status: int
) -> None:
    assert post(peer, body).status_code == status
    refused = post(portico, body)
    assert 400 <= refused.status_code < 500
    assert refused.headers["content-type"] == "application/json"
    assert refused.json()["error"]["message"]


def test_a_stopped_run_has_a_terminal_event(peer: httpx.Client, portico: httpx.Client) -> None:
    def stop_peer(_: str) -> None:
        peer.post("/stop", json={"user_id": "u-long", "session_id": "s-long"}).raise_for_status()

    def stop_portico(run_id: str) -> None:
        portico.post(f"/runs/{run_id}/cancel").raise_for_status()

    opened, delta = ask_and_stop(peer, stop_peer)[-2:]
    assert (opened["status"], delta["text"]) == ("in_progress", "I begin")
    content, message, ended = ask_and_stop(portico, stop_portico)[-3:]
    assert (content["status"], content["text"]) == ("incomplete", "I begin")
    assert (message["status"], ended["status"]) == ("incomplete", "canceled")
    assert ended["output"] == [message]


def test_headers_and_framing(peer: httpx.Client, portico: httpx.Client) -> None:
    for side in (peer, portico):
        reply = post(side, request("text"))
        assert reply.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert reply.headers["cache-control"] == "no-cache"
        assert reply.text.endswith("\n\n")


def request(script: str) -> str:
    """The same for both sides; a session of its own for each script, or the peer might refuse it."""
    message = {"role": "user", "type": "message", "content": [{"type": "text", "text": script}]}
    return json.dumps({"input": [message], "session_id": f"s-{script}", "user_id": f"u-{script}"})


def post(side: httpx.Client, body: str) -> httpx.Response:
    return side.post("/process", content=body, headers={"content-type": "application/json"})


def ask(side: httpx.Client, script: str) -> list[Event]:
    reply = post(side, request(script))
    assert reply.status_code == 200, reply.text
    return [json.loads(line[6:]) for line in reply.text.splitlines() if line.startswith("data: ")]


def ask_and_stop(side: httpx.Client, stop: Callable[[str], None]) -> list[Event]:
    """The events of the endless script, which is stopped at its first text."""
    headers = {"content-type": "application/json"}
    events: list[Event] = []
    with side.stream("POST", "/process", content=request("long"), headers=headers) as reply:
        for line in reply.iter_lines():
            if line.startswith("data: "):
                events.append(json.loads(line[6:]))
                if events[-1]["object"] == "content" and events[-1]["delta"]:
                    stop(events[0]["id"])
    return events


def closed(status: str, opened: Event, content: Event) -> list[Event]:
    """The events that close a content and its message."""
    return [{**content, "status": status}, {**opened, "status": status}]


def renumbered(events: list[Event]) -> list[Event]:
    """Number the events; messages hold the events that closed their contents, the output those that
    closed its messages."""
    contents: dict[str, list[Event]] = {}
    output: list[Event] = []
    for number, event in enumerate(events):
        event["sequence_number"] = number
        closed = event["status"] not in ("created", "in_progress")
        if event["object"] == "content" and closed:
            contents.setdefault(event["msg_id"], []).append(event)
        elif event["object"] == "message" and closed:
            event["content"] = contents.get(event["id"], [])
            output.append(event)
        elif event["object"] == "response" and closed:
            event["output"] = output
    return deepcopy(events)


def plain(events: list[Event]) -> list[Any]:
    """With fields in their order, ids numbered as they appear and times as how they compare to now.

    What an agent puts into a data content is the agent's: its order does not count.
    """
    ids: dict[str, str] = {}

    def of(value: Any, key: str = "") -> Any:
        if key in ("id", "msg_id") and isinstance(value, str):
            return ids.setdefault(value, f"id {len(ids)}")
        if key in ("created_at", "completed_at") and isinstance(value, int):
            return "a time" if abs(value - time.time()) < 600 else value
        if isinstance(value, dict):
            return value if key == "data" else [(name, of(inner, name)) for name, inner in value.items()]
        if isinstance(value, list):
            return [of(inner) for inner in value]
        return value

    return [of(event) for event in events]
