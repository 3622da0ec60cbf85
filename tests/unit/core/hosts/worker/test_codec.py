"""Codec: the values that pass between a core and a worker, and those that are refused."""

import asyncio
import os
import pickle
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Any

import pytest

from portico.agent import AgentError, Message, Rejection, Role, SavedState, TextContent, data, tool_call
from portico.core.errors import EtagMismatch
from portico.core.hosts.worker.codec import UndecodableMessage, decode, encode
from portico.core.hosts.worker.worker_messages import RemoteAddress
from portico.sandbox.errors import SandboxGone
from portico.sandbox.events import CellEnd, CellResult


class Colour(Enum):
    RED = "red"


@dataclass
class Theirs:
    name: str


@pytest.mark.parametrize(
    "value",
    [
        None,
        "text",
        b"bytes",
        2**100,
        ["a", {"b": (1, 2.5)}, {3}],
        Message(Role.USER, (TextContent("hello"),), id="m"),
        tool_call("search", {"q": "x"}, call_id="c"),
        SavedState(1, {"a": 1}, "e"),
        CellResult(b"out", b"", [], CellEnd(1)),
        RemoteAddress("r", ("state", "part")),
    ],
    ids=repr,
)
def test_our_values_arrive_as_they_are(value: object) -> None:
    assert decode(encode(value)) == value


@pytest.mark.parametrize(
    ("value", "arrives"),
    [
        (Theirs("x"), {"name": "x"}),
        (Colour.RED, "red"),
        (OrderedDict(a=1), {"a": 1}),
        (datetime(2026, 1, 2, tzinfo=UTC), "2026-01-02T00:00:00+00:00"),
    ],
    ids=repr,
)
def test_an_agents_own_classes_arrive_as_json(value: object, arrives: object) -> None:
    assert decode(encode(data({"it": value}))) == data({"it": arrives})


@pytest.mark.parametrize(
    "error",
    [
        ValueError("words"),
        AgentError("words", code="QUOTA"),
        Rejection("no", "closed"),
        EtagMismatch("e1"),
        SandboxGone("gone", "idle"),
        asyncio.CancelledError(),
    ],
    ids=repr,
)
def test_errors_arrive_with_all_that_they_know(error: BaseException) -> None:
    arrived = decode(encode(error))
    assert type(arrived) is type(error)
    assert (arrived.args, vars(arrived)) == (error.args, vars(error))


def test_an_agents_own_error_arrives_by_its_words() -> None:
    class Mine(Exception):
        pass

    arrived = decode(encode(Mine("words")))
    assert type(arrived) is RuntimeError
    assert str(arrived) == "Mine: words"


class Reducing:
    def __init__(self, *reduced: Any) -> None:
        self._reduced = reduced

    def __reduce__(self) -> Any:
        return self._reduced


@pytest.mark.parametrize(
    "hostile",
    [
        pickle.dumps(Reducing(os.system, ("true",))),
        pickle.dumps(Reducing(eval, ("1",))),
        pickle.dumps(Reducing(getattr, (Message, "__init__"))),
        pickle.dumps(os.getcwd),
        pickle.dumps(Theirs("x")),
        b"cportico.agent.protocol\nMessage.__init__\n.",
        b"cportico.agent.context\nasyncio\n.",
        b"",
        b"\xff" * 100,
        encode(["x" * 100])[:-10],
    ],
)
def test_nothing_else_is_made_of_bytes(hostile: bytes) -> None:
    with pytest.raises(UndecodableMessage):
        decode(hostile)


def test_what_can_not_be_encoded_is_an_error_here() -> None:
    with pytest.raises(TypeError):
        encode({"a": "\ud800" and Theirs("\ud800")})
