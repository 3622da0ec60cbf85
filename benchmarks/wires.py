"""The measured protocols: the request of each, and the check of a reply."""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any
from uuid import uuid4

from benchmarks.requests import BrokenReply, events, post

Events = Sequence[dict[str, Any]]
NUMBER = "{n}"  # in a body's template: different in every request
_numbers = count(1)
_prefix = uuid4().hex[:8]


@dataclass(frozen=True, slots=True)
class Wire:
    """A protocol over HTTP and server-sent events, with the same path on both sides."""

    path: str
    body: Callable[[str], dict[str, Any]]  # returns the body that sends a text to the benchmarks' agent
    # returns the tokens of a complete reply; raises BrokenReply for another reply
    said: Callable[[Events], list[str]]

    def template(self, text: str) -> str:
        """Returns the body for `text`, with NUMBER in place of each request's own number."""
        return json.dumps(self.body(text), separators=(",", ":"))

    def ask(self, text: str, credential: str = "") -> bytes:
        """Returns a complete request."""
        body = self.template(text).replace(NUMBER, f"{_prefix}{next(_numbers)}")
        return post(self.path, body.encode(), credential)

    def check(self, reply: bytes, tokens: int) -> None:
        """Raises BrokenReply unless the reply is complete and has every token."""
        said = self.said(events(reply))
        if said != [f"tok{number} " for number in range(tokens)]:
            raise BrokenReply(f"{len(said)} tokens and not {tokens}")


def _process_body(text: str) -> dict[str, Any]:
    # A user and a session for each request: the peer refuses concurrent requests that share them.
    message = {"role": "user", "type": "message", "content": [{"type": "text", "text": text}]}
    return {"input": [message], "session_id": f"s-{NUMBER}", "user_id": f"u-{NUMBER}"}


def _process_said(got: Events) -> list[str]:
    _dense(got)
    ends = [n for n, event in enumerate(got) if _ends_the_run(event)]
    if ends != [len(got) - 1] or got[-1]["status"] != "completed":
        raise BrokenReply(f"it ends with {got[-1]!r}")
    return [str(event["text"]) for event in got if event["object"] == "content" and event["delta"] is True]


def _ends_the_run(event: dict[str, Any]) -> bool:
    return event["object"] == "response" and event["status"] not in ("created", "queued", "in_progress")


def _responses_body(text: str) -> dict[str, Any]:
    message = {"role": "user", "type": "message", "content": [{"type": "input_text", "text": text}]}
    return {"model": "tokens", "input": [message], "stream": True, "user": f"u-{NUMBER}"}


def _responses_said(got: Events) -> list[str]:
    # Sequence numbers are not checked: the peer's have gaps.
    ends = [n for n, event in enumerate(got) if event["type"] == "response.completed"]
    if ends != [len(got) - 1]:
        raise BrokenReply(f"it ends with {got[-1]!r}")
    said = [str(event["delta"]) for event in got if event["type"] == "response.output_text.delta"]
    # The peer sends a whole text with the message's end.
    whole = "".join(item["content"][0]["text"] for item in got[-1]["response"]["output"])
    return said or re.findall(r"tok\d+ ", whole)


def _a2a_body(text: str) -> dict[str, Any]:
    message = {"messageId": f"m-{NUMBER}", "role": "ROLE_USER", "parts": [{"text": text}]}
    return {"jsonrpc": "2.0", "id": 1, "method": "SendStreamingMessage", "params": {"message": message}}


def _a2a_said(got: Events) -> list[str]:
    results = [event["result"] for event in got]
    state = results[-1].get("statusUpdate", {}).get("status", {}).get("state")
    if "task" not in results[0] or state != "TASK_STATE_COMPLETED":
        raise BrokenReply(f"it begins with {got[0]!r} and ends with {got[-1]!r}")
    chunks = [result["artifactUpdate"] for result in results if "artifactUpdate" in result]
    if [chunk.get("lastChunk", False) for chunk in chunks] != [False] * (len(chunks) - 1) + [True]:
        raise BrokenReply("its last chunk is not the last")
    # Portico's last chunk is empty.
    return [text for chunk in chunks for part in chunk["artifact"]["parts"] if (text := part["text"])]


def _dense(got: Events) -> None:
    numbers = [event["sequence_number"] for event in got]
    if numbers != list(range(len(got))):
        raise BrokenReply(f"the events are numbered {numbers}")


PROCESS = Wire("/process", _process_body, _process_said)
RESPONSES = Wire("/compatible-mode/v1/responses", _responses_body, _responses_said)
A2A = Wire("/a2a", _a2a_body, _a2a_said)
