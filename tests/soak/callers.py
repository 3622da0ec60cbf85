"""Callers of every protocol who go on through faults, and notice what should not be."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import httpx
import orjson
from support.deployment import ask

from portico.client import Client
from portico.client.errors import FailedPrecondition, PorticoError, Unavailable
from portico.model.messages import Status
from portico.v1 import events_pb2

T = TypeVar("T")

USER = "soak"
PATIENCE = 90.0  # how long one call may fail before that is a problem
CUT = "core_restarted"  # what agents that are not executed again fail with


class Callers:
    """Callers at work until `stop` is set. What they find wrong is in `problems`."""

    def __init__(
        self, client: Client, http: httpx.AsyncClient, directory: Path, chance: random.Random
    ) -> None:
        self.problems: list[str] = []
        self.done: Counter[str] = Counter()
        self.sessions: dict[str, int] = {}  # turns of each
        self.stop = asyncio.Event()
        self._client = client
        self._http = http
        self._directory = directory
        self._chance = chance

    async def work(self) -> None:
        """Until all callers have finished what they were at."""
        kinds = [self.over_grpc, self.over_sse, self.over_responses, self.over_chat, self.over_a2a]
        kinds += [self.cancelling, self.talking, self.saving, self.in_sandboxes]
        await asyncio.gather(*(self._repeat(kind) for kind in kinds for _ in range(2)))

    async def _repeat(self, kind: Callable[[], Awaitable[None]]) -> None:
        name = kind.__name__
        while not self.stop.is_set():
            try:
                await kind()
            except AssertionError as error:
                self.problems.append(f"{name}: {error}")
            except Exception as error:
                self.problems.append(f"{name}: {type(error).__name__}: {error}")
            self.done[name] += 1
            await asyncio.sleep(self._chance.uniform(0.02, 0.2))

    async def over_grpc(self) -> None:
        count = self._chance.randrange(1, 60)
        text = await self._told(f"count {count} 10")
        assert text.endswith(_counted(count)), text
        # What an earlier attempt said stands before it.
        assert not text.removesuffix(_counted(count)).strip("0123456789 "), text

    async def over_sse(self) -> None:
        count = self._chance.randrange(1, 60)
        key = {"idempotency-key": uuid4().hex}
        body = ask(f"count {count} 10", background=True)
        started = await self._persist(lambda: self._post("/process/task", body, key))
        run_id = started["task_id"]
        events: list[dict[str, Any]] = []
        until = time.monotonic() + PATIENCE
        while not (events and _ended(events[-1])):
            assert time.monotonic() < until, f"{run_id} does not end"
            try:
                await self._read_on(run_id, events)
            except httpx.TransportError:
                await asyncio.sleep(0.1)
        numbers = [event["sequence_number"] for event in events]
        assert numbers == list(range(len(events))), f"{run_id}: {numbers}"
        assert sum(map(_ended, events)) == 1, run_id
        last = events[-1]
        if last["status"] == "completed":
            assert last["output"][0]["content"][0]["text"] == _counted(count), run_id
        else:
            assert last["error"]["code"] == CUT, last["error"]

    async def over_responses(self) -> None:
        count = self._chance.randrange(1, 60)
        key = {"idempotency-key": uuid4().hex}
        body = {"model": "scripted", "input": f"count {count} 10", "background": True}
        response = await self._persist(lambda: self._post("/v1/responses", body, key))
        first = response["id"]
        while response["status"] in ("queued", "in_progress"):
            await asyncio.sleep(0.1)
            response = await self._persist(lambda: self._get(f"/v1/responses/{first}"))
        again = await self._persist(lambda: self._post("/v1/responses", body, key))
        assert again["id"] == first, "an idempotency key made another response"
        if response["status"] == "completed":
            assert response["output"][0]["content"][0]["text"] == _counted(count), first
        else:
            # OpenAI has no word of its own for a run that was cut off.
            assert (response["status"], response["error"]["code"]) == ("failed", "server_error"), response

    async def over_chat(self) -> None:
        count = self._chance.randrange(1, 30)
        key = {"idempotency-key": uuid4().hex}
        message = {"role": "user", "content": f"count {count} 5"}
        body = {"model": "again", "messages": [message]}
        answer = await self._persist(lambda: self._post("/v1/chat/completions", body, key))
        assert answer["choices"][0]["message"]["content"].endswith(_counted(count)), answer

    async def over_a2a(self) -> None:
        count = self._chance.randrange(1, 40)
        message = {"messageId": uuid4().hex, "role": "ROLE_USER", "parts": [{"text": f"count {count} 10"}]}
        sent = {"message": message, "configuration": {"returnImmediately": True}}
        # A message that is sent again may begin another task: A2A has no idempotency keys.
        task = (await self._persist(lambda: self._rpc("SendMessage", sent)))["task"]
        while task["status"]["state"] in ("TASK_STATE_SUBMITTED", "TASK_STATE_WORKING"):
            await asyncio.sleep(0.1)
            task = await self._persist(partial(self._rpc, "GetTask", {"id": task["id"]}))
        if task["status"]["state"] == "TASK_STATE_COMPLETED":
            text = "".join(part.get("text", "") for part in task["artifacts"][0]["parts"])
            assert text == _counted(count), task["id"]
        else:
            assert task["status"]["state"] == "TASK_STATE_FAILED", task["status"]

    async def cancelling(self) -> None:
        proof = self._directory / uuid4().hex
        run = await self._persist(lambda: self._client.runs.start(f"forever {proof}"))
        await asyncio.sleep(self._chance.uniform(0, 0.5))
        try:
            ended = await self._persist(lambda: self._client.runs.cancel(run.response.id))
        except FailedPrecondition:
            ended = await self._persist(lambda: self._client.runs.get(run.response.id))
        if ended.response.status == events_pb2.RUN_STATUS_CANCELED:
            if ended.response.output:
                assert proof.exists(), "cancelled before the agent had cleaned up"
        else:
            assert ended.response.error.code == CUT, ended.response

    async def talking(self) -> None:
        session = uuid4().hex
        turns = self._chance.randrange(2, 5)
        for turn in range(turns):
            text = await self._told(f"echo turn {turn}", user_id=USER, session_id=session)
            assert text.endswith(f"turn {turn}"), session
        self.sessions[session] = turns

    async def saving(self) -> None:
        session = uuid4().hex
        saved = await self._persist(
            lambda: self._client.states.save({"n": 1}, user_id=USER, session_id=session)
        )
        found = await self._persist(lambda: self._client.states.get(user_id=USER, session_id=session))
        assert found.round_id >= saved.round_id, session

    async def in_sandboxes(self) -> None:
        try:
            box = await self._client.sandboxes.create(user_id=USER, session_id=uuid4().hex)
            said = [
                event.stdout
                async for event in self._client.sandboxes.run_cell(box.sandbox_id, "print(6 * 7)")
            ]
            assert b"".join(said) == b"42\n", said
            await self._client.sandboxes.delete(box.sandbox_id)
        except PorticoError:
            # Sandboxes end with their core.
            await asyncio.sleep(0.5)

    async def _told(self, text: str, **options: str) -> str:
        key = uuid4().hex
        query = self._client.runs.query
        return await self._persist(
            lambda: query(text, agent="again", idempotency_key=key, **options).text()  # type: ignore[arg-type]
        )

    async def _persist(self, call: Callable[[], Awaitable[T]]) -> T:
        """The call's answer; it is made again while nobody answers."""
        until = time.monotonic() + PATIENCE
        while True:
            try:
                return await call()
            except (httpx.TransportError, Unavailable, Away) as error:
                if time.monotonic() > until:
                    raise TimeoutError(f"no answer for {PATIENCE:g} s: {error}") from error
                await asyncio.sleep(0.2)

    async def _read_on(self, run_id: str, events: list[dict[str, Any]]) -> None:
        """Add the events that follow, until the stream ends."""
        headers = {"last-event-id": str(len(events) - 1)} if events else {}
        async with self._http.stream("GET", f"/runs/{run_id}/events", headers=headers) as answer:
            if answer.status_code == 503:
                return
            assert answer.status_code == 200, await answer.aread()
            async for line in answer.aiter_lines():
                if line.startswith("data: {"):
                    event = orjson.loads(line[6:])
                    if "error" in event and "object" not in event:
                        # The core was away for long; the stream goes on where it was.
                        assert event["error"]["code"] == "UNAVAILABLE", event
                        return
                    events.append(event)

    async def _get(self, path: str) -> Any:
        return _read(await self._http.get(path))

    async def _post(self, path: str, body: object, headers: dict[str, str] | None = None) -> Any:
        return _read(await self._http.post(path, json=body, headers=headers))

    async def _rpc(self, method: str, params: object) -> Any:
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        answer = await self._post("/a2a", body, {"a2a-version": "1.0"})
        if "error" in answer:
            # The core was away; nothing else may go wrong here.
            assert "UNAVAILABLE" in str(answer["error"]) or "DRAINING" in str(answer["error"]), answer
            raise Away(str(answer["error"]))
        return answer["result"]


class Away(Exception):
    """The gateway answers that the core is away."""


def _read(answer: httpx.Response) -> Any:
    if answer.status_code in (502, 503, 504):
        raise Away(answer.text)
    assert answer.status_code in (200, 201, 202), f"{answer.status_code} {answer.text}"
    return answer.json()


def _ended(event: dict[str, Any]) -> bool:
    return event["object"] == "response" and Status(event["status"]).terminal


def _counted(count: int) -> str:
    return "".join(f"{number} " for number in range(count))
