"""After kill -9 and a rerun, readers that follow only their protocol's rules have the correct text."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc.aio
import httpx
import openai
import pytest
from a2a.client import ClientConfig, ClientFactory
from a2a.client.card_resolver import A2ACardResolver
from a2a.types import a2a_pb2 as a2a
from openai import AsyncOpenAI
from support.deployment import SCRIPTED, Deployment, ask, free_port
from support.sse import SseReader

from portico.agent import Peer
from portico.client import Client

WORDS = "story 40"
SAID = ["I count. ", "".join(f"{number} " for number in range(40))]
BINDINGS = ("JSONRPC", "HTTP+JSON", "GRPC")


@pytest.fixture
async def deployment(tmp_path: Path) -> AsyncIterator[Deployment]:
    started = Deployment(SCRIPTED, tmp_path, "--a2a-grpc-port", str(free_port()))
    yield started
    started.stop()


class Cut:
    """The core is killed once every reader has a part of the answer."""

    def __init__(self, deployment: Deployment, readers: int) -> None:
        self._deployment = deployment
        self._waiting = set(range(readers))
        self._killed = False

    def has(self, reader: int, text: str) -> None:
        if "7 8 9 " in text:
            self._waiting.discard(reader)
        if not self._waiting and not self._killed:
            self._killed = True
            self._deployment.kill("portico.core")

    @property
    def done(self) -> bool:
        return self._killed


def a2a_text(task: a2a.Task) -> list[str]:
    texts = ("".join(part.text for part in artifact.parts) for artifact in task.artifacts)
    return [text for text in texts if text]


async def over_a2a(deployment: Deployment, binding: str, cut: Cut, me: int) -> None:
    """A2A 1.0, section 4.2.2: a chunk is appended, or takes the place of the artifact of its id."""
    async with httpx.AsyncClient(timeout=60) as http:
        card = await A2ACardResolver(http, f"{deployment.url}/agents/again").get_agent_card()
        config = ClientConfig(
            httpx_client=http,
            supported_protocol_bindings=[binding],
            grpc_channel_factory=grpc.aio.insecure_channel,
        )
        client = ClientFactory(config).create(card)
        message = a2a.Message(message_id=uuid4().hex, role=a2a.ROLE_USER, parts=[a2a.Part(text=WORDS)])
        task = a2a.Task()
        async for event in client.send_message(a2a.SendMessageRequest(message=message)):
            if event.HasField("task"):
                assert not task.id, "the task opens the stream and does not come again"
                task.CopyFrom(event.task)
            elif event.HasField("status_update"):
                task.status.CopyFrom(event.status_update.status)
            else:
                update = event.artifact_update
                known = {artifact.artifact_id: artifact for artifact in task.artifacts}
                artifact = known.get(update.artifact.artifact_id)
                if artifact is None:
                    assert not update.append
                    task.artifacts.append(update.artifact)
                elif update.append:
                    artifact.parts.extend(update.artifact.parts)
                else:
                    artifact.CopyFrom(update.artifact)
            cut.has(me, "".join(a2a_text(task)))
        assert task.status.state == a2a.TASK_STATE_COMPLETED
        assert a2a_text(task) == SAID
        stored = await client.get_task(a2a.GetTaskRequest(id=task.id))
        assert a2a_text(stored) == SAID
        calls = [message for message in stored.history if "call_1" in str(message)]
        assert len(calls) == 2, "a call and its result, of one attempt"


class AgentProtocol:
    """docs/gateways/sse.md: a response of a higher attempt voids the messages before it."""

    def __init__(self) -> None:
        self._attempt = 1
        self._texts: dict[str, str] = {}
        self._silent: set[str] = set()
        self.output: list[str] = []

    def take(self, event: dict[str, Any]) -> None:
        match event["object"]:
            case "response":
                if event.get("attempt", 1) > self._attempt:
                    self._attempt = event["attempt"]
                    self._texts.clear()
                said = [item for item in event["output"] or () if item["type"] == "message"]
                self.output = ["".join(part["text"] for part in item["content"]) for item in said]
            case "message" if event["type"] != "message":
                self._silent.add(event["id"])
            case "content" if event["msg_id"] not in self._silent:
                before = self._texts.get(event["msg_id"], "") if event["delta"] else ""
                self._texts[event["msg_id"]] = before + event["text"]

    @property
    def texts(self) -> list[str]:
        return list(self._texts.values())


async def over_sse(deployment: Deployment, cut: Cut, me: int) -> None:
    async with httpx.AsyncClient(base_url=deployment.url, timeout=60) as http:
        started = await http.post("/runs", json=ask(WORDS, agent="again"))
        run_id = started.json()["id"]
        live, replayed = SseReader(http, run_id), SseReader(http, run_id)
        reading = asyncio.create_task(live.read())
        while not reading.done():
            await asyncio.sleep(0.02)
            cut.has(me, "".join(event.get("text") or "" for event in live.events if event.get("delta")))
        await reading
        await replayed.read()
        assert live.events == replayed.events
        reader = AgentProtocol()
        for event in live.events:
            reader.take(event)
        assert reader.texts == reader.output == SAID


async def over_grpc(deployment: Deployment, cut: Cut, me: int) -> None:
    async with Client(deployment.target) as client:
        run = await client.runs.start(WORDS, agent="again")
        told = ""
        async for event in client.runs.watch(run.response.id):
            told += event.content.text if event.content.delta else ""
            cut.has(me, told)
        assert [
            "".join(part.text for part in message.content)
            for message in event.response.output
            if message.content and message.content[0].text and "Let me" not in message.content[0].text
        ] == SAID
        async with client.runs.watch(run.response.id) as replay:
            assert await replay.text() == "\n".join(SAID)


async def over_responses(deployment: Deployment, cut: Cut, me: int) -> None:
    """OpenAI's API reference: the `done` event has the final item, and `completed` the final response."""
    async with AsyncOpenAI(base_url=f"{deployment.url}/v1", api_key="none", max_retries=0) as client:
        items: dict[int, Any] = {}
        told = ""
        stream = await client.responses.create(model="again", input=WORDS, stream=True, background=True)
        live = []
        async for event in stream:
            live.append(event)
            if event.type == "response.output_text.delta":
                told += event.delta
                cut.has(me, told)
            elif event.type == "response.output_item.done":
                items[event.output_index] = event.item
        assert event.type == "response.completed"
        whole = [item for item in items.values() if item.type == "message" and item.status == "completed"]
        # The first message was complete before the crash; the final output lists the valid items.
        final = [item for item in event.response.output if item.type == "message"]
        texts = ([part.text for part in item.content if part.type == "output_text"] for item in final)
        assert ["".join(parts) for parts in texts] == SAID
        assert {item.id for item in final} <= {item.id for item in whole}
        stored = await client.responses.retrieve(event.response.id)
        assert stored.output_text == event.response.output_text == "".join(SAID)
        again = await client.responses.retrieve(event.response.id, stream=True)
        assert [event async for event in again] == live


async def over_chat(deployment: Deployment, cut: Cut, me: int) -> None:
    """No chunk can be withdrawn: the stream ends with an error, and a new request gets the whole answer."""
    key = {"Idempotency-Key": uuid4().hex}
    asked: Any = {"model": "again", "messages": [{"role": "user", "content": WORDS}], "extra_headers": key}
    told = ""

    async def read(client: AsyncOpenAI) -> None:
        nonlocal told
        async for chunk in await client.chat.completions.create(**asked, stream=True):
            told += chunk.choices[0].delta.content or ""
            cut.has(me, told)

    async with AsyncOpenAI(base_url=f"{deployment.url}/v1", api_key="none", max_retries=0) as client:
        with pytest.raises(openai.APIError) as failed:
            await read(client)
        assert failed.value.code == "run_restarted"
        assert "0 1 2" in told
        answer = await client.chat.completions.create(**asked)
        assert answer.choices[0].message.content == "\n\n".join(SAID)


async def over_plain_chat(deployment: Deployment, cut: Cut) -> None:
    async with AsyncOpenAI(base_url=f"{deployment.url}/v1", api_key="none", max_retries=0) as client:
        answer = await client.chat.completions.create(
            model="again", messages=[{"role": "user", "content": WORDS}]
        )
        assert cut.done
        assert answer.choices[0].message.content == "\n\n".join(SAID)


async def over_a_peer(deployment: Deployment, cut: Cut, me: int) -> None:
    """An agent that calls another one: Portico's own reader of A2A."""
    peer = Peer(f"{deployment.url}/agents/again", headers={}, timeout=30)
    told: dict[str, str] = {}
    async for piece in peer.stream(WORDS):
        told[piece.artifact_id] = ("" if piece.replaces else told.get(piece.artifact_id, "")) + piece.text
        cut.has(me, "".join(told.values()))
    assert [text for text in told.values() if text] == SAID


async def over_a_waiting_peer(deployment: Deployment, cut: Cut) -> None:
    answer = await Peer(f"{deployment.url}/agents/again", headers={}, timeout=30).send(WORDS)
    assert cut.done
    assert answer.text == "".join(SAID)


@pytest.mark.timeout(300)
async def test_every_protocol_has_the_right_text_in_the_end(deployment: Deployment) -> None:
    cut = Cut(deployment, 8)
    await asyncio.gather(
        over_plain_chat(deployment, cut),
        *(over_a2a(deployment, binding, cut, number) for number, binding in enumerate(BINDINGS)),
        over_sse(deployment, cut, 3),
        over_grpc(deployment, cut, 4),
        over_responses(deployment, cut, 5),
        over_chat(deployment, cut, 6),
        over_a_peer(deployment, cut, 7),
        over_a_waiting_peer(deployment, cut),
    )
