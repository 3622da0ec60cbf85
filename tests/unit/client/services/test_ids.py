"""An id is set or omitted, and never empty: every method of every service, async and blocking."""

import inspect
from typing import Any

import pytest

from portico.client import Client, InvalidArgument, SyncClient

SERVICES = ("agents", "identity", "memories", "pushes", "runs", "sandboxes", "sessions", "states")
NOWHERE = "127.0.0.1:1"  # a call that left the client would fail in another way


def taking_ids() -> list[tuple[str, str, str]]:
    """Yields the service, method and parameter of every id in the client."""
    found = []
    client = Client(NOWHERE)
    for service in SERVICES:
        for name, method in inspect.getmembers(getattr(client, service), inspect.ismethod):
            ids = [
                parameter for parameter in inspect.signature(method).parameters if parameter.endswith("_id")
            ]
            found += [(service, name, id) for id in ids if not name.startswith("_")]
    return found


async def called(method: Any, **given: str) -> None:
    """Calls the method with these arguments, and some text for other required ones."""
    signature = inspect.signature(method).parameters.values()
    required = [one.name for one in signature if one.default is one.empty and one.kind is not one.VAR_KEYWORD]
    result = method(**dict.fromkeys(required, "x") | given)
    if inspect.isawaitable(result):
        await result


async def test_all_methods_refuse_an_empty_id() -> None:
    cases = taking_ids()
    assert len(cases) > 90
    assert ("memories", "delete", "memory_id") in cases
    async with Client(NOWHERE) as client:
        for service, name, id in cases:
            with pytest.raises(InvalidArgument) as refused:
                await called(getattr(getattr(client, service), name), **{id: ""})
            assert refused.value.reason == "INVALID_ARGUMENT"
            assert refused.value.metadata == {"field": id}


async def test_what_a_query_names_is_not_empty_either() -> None:
    async with Client(NOWHERE) as client:
        for name in ("session_id", "user_id", "previous_run_id", "before_message_id", "parent_run_id"):
            options: Any = {name: ""}
            with pytest.raises(InvalidArgument, match=name):
                client.runs.query("hi", **options)


def test_a_method_that_is_awaited_says_so() -> None:
    client = Client(NOWHERE)
    assert inspect.iscoroutinefunction(client.memories.delete)
    assert not inspect.iscoroutinefunction(client.memories.list)


async def test_an_id_by_its_place_is_checked_too() -> None:
    async with Client(NOWHERE) as client:
        with pytest.raises(InvalidArgument):
            await client.identity.forget_user("")
        with pytest.raises(InvalidArgument):
            await client.sessions.delete("", user_id="ada")


def test_the_blocking_client_refuses_the_same() -> None:
    with SyncClient(NOWHERE) as client, pytest.raises(InvalidArgument, match="memory_id"):
        client.memories.delete(user_id="ada", memory_id="")
