"""A2A between processes: existing clients, replicas, crashes, and one run in every protocol."""

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import grpc.aio
import httpx
import psutil
import pytest
from a2a.client import Client, ClientConfig, ClientFactory
from a2a.client.card_resolver import A2ACardResolver
from a2a.types import a2a_pb2 as a2a
from support.deployment import READY_SECONDS, SCRIPTED, Deployment, free_port
from support.programs import node, steps

from portico.client import Client as CoreClient

ROOT = Path(__file__).parents[2]
OLD_PYTHON = ROOT / ".a2a-old/bin/python"
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def a2a_deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    started = Deployment(SCRIPTED, tmp_path_factory.mktemp("a2a"), "--a2a-grpc-port", str(free_port()))
    yield started
    started.stop()


async def connect(http: httpx.AsyncClient, url: str, binding: str = "JSONRPC") -> Client:
    card = await A2ACardResolver(http, url).get_agent_card()
    config = ClientConfig(
        httpx_client=http,
        supported_protocol_bindings=[binding],
        grpc_channel_factory=grpc.aio.insecure_channel,
    )
    return ClientFactory(config).create(card)


def ask(text: str) -> a2a.SendMessageRequest:
    parts = [a2a.Part(text=text)]
    return a2a.SendMessageRequest(
        message=a2a.Message(message_id=uuid4().hex, role=a2a.ROLE_USER, parts=parts)
    )


@pytest.mark.parametrize("binding", ["JSONRPC", "HTTP+JSON", "GRPC"])
async def test_the_javascript_sdk(a2a_deployment: Deployment, binding: str) -> None:
    told = await steps(node(), HERE / "a2a_client.mjs", a2a_deployment.url, binding)
    assert told["card"]["version"] == "1.0"
    expected = ["task", "statusUpdate", *["artifactUpdate"] * 4, "statusUpdate"]
    assert told["stream"] == {"kinds": expected, "text": "0 1 2 "}
    assert told["get"] == {"text": "0 1 2 ", "state": 3, "history": 1}
    assert (told["answer"]["asked"], told["cancel"]["state"]) == (6, 5)
    assert "Rome" in str(told["answer"]["text"])
    assert told["missing"]["error"] == "TaskNotFoundError"


@pytest.mark.parametrize("binding", ["JSONRPC", "HTTP+JSON", "GRPC"])
async def test_a_client_of_0_3(a2a_deployment: Deployment, binding: str) -> None:
    if not OLD_PYTHON.exists():
        pytest.skip("no client of 0.3; run `make a2a-old`")
    told = await steps(OLD_PYTHON, HERE / "a2a_old_client.py", a2a_deployment.url, binding)
    expected = ["task", "status-update", *["artifact-update"] * 4, "status-update"]
    assert told["stream"] == {"kinds": expected, "text": "0 1 2 ", "state": "completed"}
    assert told["get"] == {"text": "0 1 2 ", "state": "completed", "history": 1}
    assert told["asked"]["state"] == "input-required"
    assert "Rome" in str(told["answer"]["text"])
    assert told["cancel"]["state"] == "canceled"


async def test_a_task_is_a_run_in_every_protocol(a2a_deployment: Deployment, tmp_path: Path) -> None:
    async with (
        httpx.AsyncClient(timeout=30) as http,
        CoreClient(a2a_deployment.target) as core,
    ):
        client = await connect(http, a2a_deployment.url)
        stream = client.send_message(ask(f"forever {tmp_path}/mark"))
        id = (await anext(stream)).task.id
        run = (await http.get(f"{a2a_deployment.url}/runs/{id}")).json()
        assert run["id"] == id
        ended = await core.runs.cancel(id)
        assert ended.response.id == id
        last = [event async for event in stream][-1]
        assert last.status_update.status.state == a2a.TASK_STATE_CANCELED
        events = (await http.get(f"{a2a_deployment.url}/runs/{id}/events")).text
        assert '"status":"canceled"' in events
        run = await core.runs.start("count 2")
        async with core.runs.watch(run.response.id) as watching:
            assert await watching.text() == "0 1 "
        task = await client.get_task(a2a.GetTaskRequest(id=run.response.id))
        assert task.artifacts[0].parts[0].text == "0 1 "


async def test_a_killed_gateway_has_lost_nothing(tmp_path: Path) -> None:
    deployment = Deployment(SCRIPTED, tmp_path)
    try:
        async with httpx.AsyncClient(timeout=30) as http:
            client = await connect(http, deployment.url)
            stream = client.send_message(ask(f"count-until {tmp_path}/enough"))
            task = (await anext(stream)).task
            deployment.kill("portico.gateways")
            with pytest.raises(Exception):  # noqa: B017 - whatever the SDK makes of it
                async for _ in stream:
                    pass
            deployment.wait_ready()
            watching = client.subscribe(a2a.SubscribeToTaskRequest(id=task.id))
            text = "".join(part.text for part in (await anext(watching)).task.artifacts[0].parts)
            (tmp_path / "enough").touch()
            async for event in watching:
                text += "".join(part.text for part in event.artifact_update.artifact.parts)
            assert text == "".join(f"{number} " for number in range(len(text.split())))
    finally:
        deployment.stop()


async def test_agents_of_two_processes_call_each_other(tmp_path: Path) -> None:
    ports = [(free_port(), free_port()), (free_port(), free_port())]
    deployments = []
    try:
        for name, own, other in (("a", ports[0], ports[1]), ("b", ports[1], ports[0])):
            directory = tmp_path / name
            directory.mkdir()
            env = {"NAME": name, "PEER_URL": f"http://127.0.0.1:{other[0]}"}
            command = [sys.executable, "-m", "portico.cli", "run", str(HERE / "agents/calling.py")]
            command += ["--port", str(own[0]), "--grpc-port", str(own[1]), "--data-dir", str(directory)]
            deployments.append(
                Deployment(HERE / "agents/calling.py", directory, env=env, command=command, ports=own)
            )
        async with CoreClient(deployments[0].target) as core, core.runs.query("4") as stream:
            assert await stream.text() == "a4 b3 a2 b1 a0 "
    finally:
        for deployment in deployments:
            deployment.stop()


async def test_replicas_before_one_core(a2a_deployment: Deployment, tmp_path: Path) -> None:
    """Sends through one gateway, subscribes through another, cancels through a third."""
    ports = [free_port(), free_port()]
    replicas = [
        psutil.Popen(
            [sys.executable, "-m", "portico.cli", "gateway", "a2a"]
            + ["--core", a2a_deployment.target, "--port", str(port)]
        )
        for port in ports
    ]
    try:
        async with httpx.AsyncClient(timeout=30) as http:
            for port in ports:
                async with asyncio.timeout(READY_SECONDS):
                    while not await _answers(http, f"http://127.0.0.1:{port}"):
                        await asyncio.sleep(0.05)
            first = await connect(http, a2a_deployment.url)
            second, third = [await connect(http, f"http://127.0.0.1:{port}") for port in ports]
            stream = first.send_message(ask(f"forever {tmp_path}/mark"))
            task = (await anext(stream)).task
            watching = second.subscribe(a2a.SubscribeToTaskRequest(id=task.id))
            assert (await anext(watching)).task.id == task.id
            canceled = await third.cancel_task(a2a.CancelTaskRequest(id=task.id))
            assert canceled.status.state == a2a.TASK_STATE_CANCELED
            for following in (stream, watching):
                last = [event async for event in following][-1]
                assert last.status_update.status.state == a2a.TASK_STATE_CANCELED
            assert (tmp_path / "mark").read_text() == "cleaned up"
    finally:
        for replica in replicas:
            replica.terminate()
        for replica in replicas:
            replica.wait(20)


async def _answers(http: httpx.AsyncClient, url: str) -> bool:
    try:
        return (await http.get(f"{url}/.well-known/agent-card.json")).status_code == 200
    except httpx.TransportError:
        return False
