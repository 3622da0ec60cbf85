"""kill -9 of the core during a stream loses no event that a reader has received."""

import asyncio
import random

import httpx
import pytest
from support.deployment import Deployment, ask
from support.sse import SseReader, terminal

from portico.client import Client
from portico.v1 import events_pb2

KILLS = 50


def check(numbers: list[int], terminals: int) -> None:
    assert numbers == list(range(len(numbers))), "lost, doubled or reordered"
    assert terminals == 1


@pytest.mark.timeout(600)
@pytest.mark.parametrize("part", range(2))
async def test_a_killed_core_loses_no_event_and_doubles_none(own_deployment: Deployment, part: int) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    async with (
        Client(own_deployment.target) as client,
        httpx.AsyncClient(base_url=own_deployment.url, timeout=60) as http,
    ):
        for turn in range(KILLS // 2):
            await asyncio.to_thread(own_deployment.wait_ready)
            agent = "again" if turn % 2 else "scripted"
            run = await client.runs.start("count 60 5", agent=agent)
            run_id = run.response.id
            over_sse = SseReader(http, run_id)
            reading = asyncio.create_task(over_sse.read())
            stream = client.runs.watch(run_id)
            killed = asyncio.get_running_loop().call_later(
                chance.uniform(0.0, 0.35), own_deployment.kill, "portico.core"
            )
            events = [event async for event in stream]
            await asyncio.wait_for(reading, 60)
            killed.cancel()
            over_grpc = [event.sequence_number for event in events]
            ends = [e for e in events if e.HasField("response") and e.response.HasField("completed_time")]
            check(over_grpc, len(ends))
            check(
                [int(str(event["sequence_number"])) for event in over_sse.events],
                sum(terminal(event) for event in over_sse.events),
            )
            assert len(over_sse.events) == len(events)
            end = ends[0].response
            if end.status == events_pb2.RUN_STATUS_FAILED:
                assert agent == "scripted"
                assert end.error.code == "core_restarted"
            else:
                assert end.status == events_pb2.RUN_STATUS_COMPLETED
                assert end.output[0].content[0].text.split() == [str(number) for number in range(60)]


async def test_what_a_failed_run_had_said_is_kept(own_deployment: Deployment) -> None:
    async with Client(own_deployment.target) as client:
        run = await client.runs.start("count 1000 5", agent="scripted", session_id="kept", user_id="kept")
        await asyncio.sleep(0.5)
        own_deployment.kill("portico.core")
        events = [event async for event in client.runs.watch(run.response.id)]
        deltas = "".join(event.content.text for event in events if event.content.delta)
        end = events[-1].response
        assert end.error.code == "core_restarted"
        assert deltas
        assert end.output[0].content[0].text == deltas
        stored = [message async for message in client.sessions.list_messages("kept", user_id="kept")]
        assert [message.message.role for message in stored] == [
            events_pb2.ROLE_USER,
            events_pb2.ROLE_ASSISTANT,
        ]


async def test_a_run_that_is_executed_again_says_so(own_deployment: Deployment) -> None:
    async with Client(own_deployment.target) as client:
        stream = client.runs.query("die 2", agent="again")
        events = [event async for event in stream]
        attempts = [event.response.attempt for event in events if event.HasField("response")]
        assert attempts == [1, 1, 2, 3, 3]
        assert events[-1].response.output[0].content[0].text == "alive in attempt 3"


async def test_an_agent_that_always_kills_its_core_ends_as_failed(own_deployment: Deployment) -> None:
    async with Client(own_deployment.target) as client:
        stream = client.runs.query("die 100", agent="again", resume_timeout=90)
        events = [event async for event in stream]
        assert events[-1].response.status == events_pb2.RUN_STATUS_FAILED
        assert events[-1].response.attempt == 5


async def test_answers_of_people_outlive_the_core(own_deployment: Deployment) -> None:
    async with Client(own_deployment.target) as client:
        first = [event async for event in client.runs.query("ask-twice", agent="again")]
        paused = first[-1].response
        assert paused.input_request.prompt == "First?"
        run = await client.runs.resume(paused.id, "one")
        second = [event async for event in client.runs.watch(paused.id, after=run.last_sequence_number)]
        assert second[-1].response.input_request.prompt == "Second?"
        own_deployment.kill("portico.core")
        await asyncio.to_thread(own_deployment.wait_ready)
        waiting = await client.runs.get(paused.id)
        assert waiting.response.input_request.prompt == "Second?"
        run = await client.runs.resume(paused.id, "two")
        rest = [event async for event in client.runs.watch(paused.id, after=run.last_sequence_number)]
        assert rest[-1].response.output[-1].content[0].text == "one and two"


async def test_a_killed_gateway_is_back_and_has_lost_nothing(own_deployment: Deployment) -> None:
    async with httpx.AsyncClient(base_url=own_deployment.url, timeout=60) as http:
        started = await http.post("/runs", json=ask("count 200 5"))
        reader = SseReader(http, started.json()["id"])
        reading = asyncio.create_task(reader.read())
        await asyncio.sleep(0.4)
        own_deployment.kill("portico.gateways")
        await asyncio.wait_for(reading, 60)
        assert reader.connections > 1
        assert [event["sequence_number"] for event in reader.events] == list(range(len(reader.events)))
        assert reader.events[-1]["status"] == "completed"
