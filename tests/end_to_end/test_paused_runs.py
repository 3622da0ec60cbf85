"""Runs that wait for an answer keep waiting over restarts of a real core."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import orjson
import pytest
from openai import AsyncOpenAI
from support.deployment import Deployment, ask

from portico.client import Client
from portico.v1 import events_pb2 as pb
from portico.v1 import query_pb2

ASKING = Path(__file__).parent / "agents" / "asking.py"
AGENTS = ["by-yield", "by-await", "in-thread", "generator", "worker", "again"]


@pytest.fixture
async def asking(tmp_path: Path) -> AsyncIterator[Deployment]:
    started = Deployment(ASKING, tmp_path)
    yield started
    started.stop()


def restart(deployment: Deployment) -> None:
    """Restarts the core as an operator or an upgrade does."""
    assert deployment.stop() == 0
    deployment.start()


def signal_everything(deployment: Deployment) -> None:
    """Sends SIGTERM as an init system does for a service; here the core's workers receive it first."""
    processes = deployment.process.children(recursive=True)
    for process in processes:
        if "portico.core.hosts.worker" in process.cmdline():
            process.send_signal(signal.SIGTERM)
            time.sleep(1)
    for process in processes:
        process.send_signal(signal.SIGTERM)
    restart(deployment)


def kill(deployment: Deployment) -> None:
    deployment.kill("portico.core")
    deployment.wait_ready()


async def question(client: Client, run_id: str) -> str:
    run = await client.runs.get(run_id)
    assert run.response.status == pb.RUN_STATUS_INPUT_REQUIRED, (run.response.agent_name, run.response.error)
    return run.response.input_request.prompt


@pytest.mark.timeout(300)
async def test_every_kind_of_agent_waits_over_every_kind_of_restart(asking: Deployment) -> None:
    async with Client(asking.target) as client:
        runs = {
            agent: [e async for e in client.runs.query("go", agent=agent)][-1].response for agent in AGENTS
        }
        for again in (restart, kill, signal_everything):
            again(asking)
            for run in runs.values():
                assert await question(client, run.id) == "First?"
        queued = await client.runs.start(
            "go",
            agent="quick",
            session_id=runs["by-yield"].session_id,
            user_id=runs["by-yield"].user_id,
            if_session_busy=query_pb2.SESSION_BUSY_POLICY_ENQUEUE,
        )
        for run in runs.values():
            answered = await client.runs.resume(run.id, "one", input_request_id=run.input_request.id)
            after = answered.last_sequence_number
            *_, second = [event async for event in client.runs.watch(run.id, after=after)]
            assert second.response.input_request.prompt == "Second?"
        for again in (kill, restart):
            again(asking)
            for run in runs.values():
                assert await question(client, run.id) == "Second?"
        assert (await client.runs.get(queued.response.id)).response.status == pb.RUN_STATUS_QUEUED
        for agent, run in runs.items():
            await client.runs.resume(run.id, "two")
            *_, end = [event async for event in client.runs.watch(run.id)]
            assert end.response.status == pb.RUN_STATUS_COMPLETED, (agent, end.response.error)
            assert end.response.output[-1].content[0].text == "one and two"
        *_, end = [event async for event in client.runs.watch(queued.response.id)]
        assert end.response.status == pb.RUN_STATUS_COMPLETED


async def asked_below(client: Client) -> list[str]:
    """Returns the child runs that wait for an answer."""
    return sorted(
        [run.response.id async for run in client.runs.list(agent="worker", statuses=["input_required"])]
    )


@pytest.mark.timeout(300)
async def test_runs_wait_with_their_child_runs(asking: Deployment) -> None:
    async with Client(asking.target) as client:
        managers = ["manager", "manager-apart"]
        runs = [(await client.runs.start("go", agent=agent)).response.id for agent in managers]
        async with asyncio.timeout(60):
            while len(below := await asked_below(client)) < 2:
                await asyncio.sleep(0.05)
        for again, words in ((kill, "one"), (restart, "two")):
            again(asking)
            assert await asked_below(client) == below
            for run_id in below:
                answered = await client.runs.resume(run_id, words)
                async for event in client.runs.watch(run_id, after=answered.last_sequence_number):
                    last = event
        assert last.response.status == pb.RUN_STATUS_COMPLETED
        for run_id in runs:
            *_, end = [event async for event in client.runs.watch(run_id)]
            assert end.response.status == pb.RUN_STATUS_COMPLETED, end.response.error
            assert end.response.output[0].content[0].text == ("I ask somebody. completed: Hello. one and two")


async def test_an_agent_that_must_not_be_executed_again_can_not_pause(asking: Deployment) -> None:
    async with Client(asking.target) as client:
        *_, end = [event async for event in client.runs.query("go", agent="strict")]
        assert end.response.error.code == "pause_refused"
        assert 'omit on_restart or set it to "rerun"' in asking.log.read_text()


Restarted = Callable[[], Awaitable[None]]  # returns once all runs wait and the core has restarted


async def over_responses(deployment: Deployment, restarted: Restarted) -> str:
    """Returns the output of a chat's user: the question's response, then the answer's."""
    async with AsyncOpenAI(base_url=f"{deployment.url}/v1", api_key="none", max_retries=0) as client:
        first = await client.responses.create(model="by-yield", input="go")
        assert first.output_text == "Hello. First?"
        second = await client.responses.create(model="by-yield", input="one", previous_response_id=first.id)
        assert second.output_text == "Second?"
        await restarted()
        stream = await client.responses.create(
            model="by-yield", input="two", previous_response_id=second.id, stream=True
        )
        told = "".join([event.delta async for event in stream if event.type == "response.output_text.delta"])
        assert (await client.responses.retrieve(first.id)).output_text == "Hello. First?"
        return told


async def over_a2a(deployment: Deployment, restarted: Restarted) -> str:
    async with httpx.AsyncClient(base_url=f"{deployment.url}/agents/by-yield/a2a", timeout=60) as http:

        async def send(text: str, **more: str) -> dict[str, Any]:
            message = {"messageId": uuid4().hex, "role": "ROLE_USER", "parts": [{"text": text}], **more}
            answer = await http.post(
                "/message:send", json={"message": message}, headers={"a2a-version": "1.0"}
            )
            assert answer.status_code == 200, answer.text
            task: dict[str, Any] = answer.json()["task"]
            return task

        task = await send("go")
        task = await send("one", taskId=task["id"])
        assert task["status"]["state"] == "TASK_STATE_INPUT_REQUIRED"
        await restarted()
        task = await send("two", taskId=task["id"])
        assert task["status"]["state"] == "TASK_STATE_COMPLETED"
        asked = [part["text"] for message in task["history"] for part in message["parts"]]
        assert asked == ["go", "First?", "one", "Second?", "two"]
        return "".join(part["text"] for artifact in task["artifacts"] for part in artifact["parts"])


async def over_sse(deployment: Deployment, restarted: Restarted) -> str:
    async with httpx.AsyncClient(base_url=deployment.url, timeout=60) as http:
        run_id = (await http.post("/runs", json=ask("go", agent="by-yield"))).json()["id"]
        for words in ("one", "two"):
            async with asyncio.timeout(60):
                while (await http.get(f"/runs/{run_id}")).json()["status"] != "input_required":
                    await asyncio.sleep(0.05)
            if words == "two":
                await restarted()
            answered = await http.post(
                f"/runs/{run_id}/resume", json={"input": words}, headers={"accept": "text/event-stream"}
            )
            assert answered.status_code == 200, answered.text
        *_, last = [line for line in answered.text.splitlines() if line.startswith("data: ")]
        output = orjson.loads(last.removeprefix("data: "))["output"]
        return "".join(content["text"] for message in output for content in message["content"])


@pytest.mark.timeout(300)
@pytest.mark.parametrize("again", [kill, restart])
async def test_every_protocol_answers_after_a_restart(
    asking: Deployment, again: Callable[[Deployment], None]
) -> None:
    all_wait, is_back = asyncio.Barrier(4), asyncio.Event()

    async def restarted() -> None:
        await all_wait.wait()
        await is_back.wait()

    async def restart_once_all_wait() -> None:
        await all_wait.wait()
        await asyncio.to_thread(again, asking)
        async with Client(asking.target) as client:
            await client.runs.list().page()  # as soon as the core serves
        is_back.set()

    responses, task, sse, _ = await asyncio.gather(
        over_responses(asking, restarted),
        over_a2a(asking, restarted),
        over_sse(asking, restarted),
        restart_once_all_wait(),
    )
    assert responses == "one and two"
    assert task == sse == "Hello. one and two"
