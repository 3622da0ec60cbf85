"""The blocking client has the same methods as the async client."""

import asyncio
import inspect
import threading
from typing import TYPE_CHECKING

import pytest

from portico.client import Cancelled, Client, NotFound, SyncClient
from portico.v1 import agent_pb2

if TYPE_CHECKING:
    from unit.client.conftest import ScriptedCore


async def test_a_query_is_read_without_async(core: "ScriptedCore") -> None:
    def work() -> None:
        with SyncClient(core.target) as client, client.runs.query("hello") as stream:
            numbers = []
            for event in stream:
                numbers.append(event.sequence_number)
                assert stream.last_sequence_number == event.sequence_number
            assert numbers == list(range(7))
            assert stream.run_id == "resp_0"
            assert stream.response is not None
            assert client.runs.watch("resp_0", after=2).text() == "abc"

    await asyncio.to_thread(work)


async def test_calls_and_lists_block(core: "ScriptedCore") -> None:
    agent = agent_pb2.Agent(name="friday")
    first = agent_pb2.ListAgentsResponse(agents=[agent], next_page_token="n")
    core.answers["ListAgents"] = [first, agent_pb2.ListAgentsResponse(agents=[agent]), first]
    core.answers["GetAgent"] = agent_pb2.GetAgentResponse(agent=agent)
    core.answers["StreamEndpoint"] = [agent_pb2.StreamEndpointResponse(item_json=str(n)) for n in range(3)]

    def work() -> None:
        with SyncClient(core.target) as client:
            assert client.healthy()
            assert list(client.agents.list()) == [agent, agent]
            assert client.agents.list().page() == first
            assert client.with_options(credential="other").agents.get() == agent
            assert [item.item_json for item in client.agents.stream_endpoint("/n")] == ["0", "1", "2"]
            with pytest.raises(NotFound):
                client.runs.watch("resp_none").text()

    await asyncio.to_thread(work)
    assert core.metadata[-2]["authorization"] == "Bearer other"


async def test_leaving_the_block_ends_the_call(core: "ScriptedCore", endless: None) -> None:
    def work() -> None:
        with SyncClient(core.target) as client:
            with client.runs.query("hello") as stream:
                next(stream)
            for _ in client.runs.query("hello"):
                break

    await asyncio.to_thread(work)
    await asyncio.wait_for(core.cancelled.wait(), 5)


async def test_a_closed_client_has_no_thread_and_raises_cancelled(core: "ScriptedCore") -> None:
    def work() -> None:
        client = SyncClient(core.target)
        client.close()
        client.close()
        with pytest.raises(Cancelled):
            client.healthy()

    await asyncio.to_thread(work)
    assert not [thread for thread in threading.enumerate() if thread.name == "portico client"]


async def test_both_clients_have_the_same_methods(core: "ScriptedCore") -> None:
    client = Client(core.target)
    sync = await asyncio.to_thread(SyncClient, core.target)
    for service in ("agents", "memories", "pushes", "runs", "sandboxes", "sessions", "states"):
        with_async, without = getattr(client, service), getattr(sync, service)
        names = {name for name in dir(with_async) if not name.startswith("_")}
        assert names == {name for name in dir(without) if not name.startswith("_")} - {"thread", "service"}
        for name in names:
            assert inspect.signature(getattr(with_async, name)) == inspect.signature(getattr(without, name))
    await asyncio.to_thread(sync.close)
