"""One lane (`stream_id`) of a WebSocket connection: creates its responses one after the other, in the order
of their requests.
"""

import asyncio
import logging
from dataclasses import dataclass, replace
from typing import Any, Protocol
from uuid import uuid4

from portico.gateways.http.request.body import Disconnected
from portico.gateways.openai.errors import OpenAiError, error_text, invalid
from portico.gateways.openai.responses.request.creation import Creation, read_creation
from portico.gateways.openai.responses.request.message_items import message_item
from portico.gateways.openai.responses.request.request_echo import RequestEcho
from portico.gateways.openai.responses.run_opener import RunOpener
from portico.gateways.openai.responses.stream.event_writer import EventWriter, data_of
from portico.gateways.openai.responses.stream.response_builder import ResponseBuilder
from portico.gateways.openai.responses.stream.translator import ResponseTranslator
from portico.gateways.openai.responses.websocket.steering import (
    Steer,
    failed_event,
    pending_event,
    required_input,
)
from portico.v1 import events_pb2 as pb

log = logging.getLogger(__name__)

WAITING = 32  # the most waiting creations of a lane
# Members of a WebSocket body that belong to the envelope.
_ENVELOPE = ("type", "stream_id", "generate", "stream", "stream_options")


@dataclass(frozen=True, slots=True)
class ConnectionContext:
    """The items that continue from a response that is not stored, and the stored response or conversation
    before them.
    """

    items: list[Any]
    previous: str  # id of a stored response
    conversation: str


class ResponseConnection(Protocol):
    """The parts of a connection that a lane uses."""

    metadata: dict[str, str]
    compatible: bool
    contexts: dict[str, ConnectionContext]  # for responses that are not stored
    owed: dict[str, list[Steer]]  # response id to input that waits for the caller's outputs of calls

    def ended(self, response_id: str) -> None:
        """Notes that the response has ended and can't be steered any more."""
        ...

    async def send(self, data: bytes, stream_id: str) -> None:
        """Sends an event of a response."""
        ...

    async def tell(self, event: dict[str, Any], stream_id: str) -> None:
        """Sends an event of the connection itself."""
        ...

    async def refuse(self, error: OpenAiError, stream_id: str) -> None:
        """Sends an error."""
        ...


class ResponseQueue:
    """The queue of one lane; processed until it is cancelled."""

    def __init__(self, connection: ResponseConnection, opener: RunOpener, stream_id: str, id: str) -> None:
        self.queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue(WAITING)
        self.stream_id = stream_id
        self.active = ""  # id of the response in progress
        self.told: list[Steer] = []  # input sent to it that the run has not read yet
        self._connection = connection
        self._opener = opener
        self._id = id
        self._kept = ""  # id of the response whose context this lane keeps in the connection

    async def work(self) -> None:
        """Answers the creations in the queue, one after the other."""
        while True:
            body: dict[str, Any] | None = await self.queue.get()
            while body is not None:
                body = await self._attempt(body)

    async def _attempt(self, body: dict[str, Any]) -> dict[str, Any] | None:
        """Answers one creation. Returns the creation that must follow it, if any."""
        connection = self._connection
        try:
            return await self._respond(body)
        except Disconnected:
            raise
        except Exception as error:
            refused = error_text(error, log, self._id)
        finally:
            if self.active:
                connection.ended(self.active)
            self.active = ""
        # A context can't be used again after a continuation of it has failed.
        connection.contexts.pop(str(body.get("previous_response_id")), None)
        await self._give_back("successor_creation_failed", refused.message)
        await connection.refuse(refused, self.stream_id)
        return None

    async def _respond(self, body: dict[str, Any]) -> dict[str, Any] | None:
        connection = self._connection
        creation, context = self._read(body)
        if body.get("generate") is False or _prewarms(body):
            await self._prepare(creation, context)
            return None
        plan = await self._opener.plan(creation, connection.metadata, compatible=connection.compatible)
        translator = plan.translator(following=True)
        with self._opener.open(plan, connection.metadata) as stream:
            async for frames in stream:
                for frame in translator.add_frames(frames):
                    await connection.send(data_of(frame), self.stream_id)
                self._follow(translator)
        response = translator.json()
        if response is None:
            raise OpenAiError("the run's log can't be read", status=503)
        self._opener.forget(plan, translator, connection.metadata)
        if creation.query.ephemeral:
            # A conversation stores the items; otherwise no session does.
            items = [] if creation.conversation else [*context, *_said(translator)]
            self._keep(response["id"], ConnectionContext(items, creation.previous, creation.conversation))
        return await self._after(body, response, paused=translator.paused)

    def _read(self, body: dict[str, Any]) -> tuple[Creation, list[Any]]:
        """Returns the request, and all items of its context and input. Raises OpenAiError, BadRequest."""
        if body.get("background"):
            raise invalid("background", "is not supported on a WebSocket")
        if body.get("stream") is False:
            raise invalid("stream", "must be true on a WebSocket")
        asked = {name: value for name, value in body.items() if name not in _ENVELOPE}
        previous = asked.get("previous_response_id") or ""
        connection = self._connection
        items = _items(asked.get("input"))
        if isinstance(previous, str) and (owed := connection.owed.pop(previous, None)):
            items = [item for steer in owed for item in steer.items] + (items or [])
        local = connection.contexts.get(previous) if isinstance(previous, str) else None
        context = [*(local.items if local else []), *(items or [])]
        if items is not None or local is not None:
            asked["input"] = context
        if _prewarms(asked):
            asked["prompt_cache_options"] = {**asked["prompt_cache_options"], "prewarm": False}
        creation = read_creation(asked)
        if local is not None:
            # The input contains the context; what is stored before it is referenced here.
            creation = replace(creation, previous=local.previous, conversation=local.conversation)
            if local.conversation:
                request = creation.query.request
                request.session_id = local.conversation
        return creation, context

    async def _prepare(self, creation: Creation, context: list[Any]) -> None:
        """Sends a response without output, which later responses can continue."""
        connection = self._connection
        agent = await self._opener.check(creation, connection.metadata, compatible=connection.compatible)
        first = pb.Response(id=f"resp_{uuid4().hex}", agent_name=agent)
        first.created_time.GetCurrentTime()
        frames: list[bytes] = []
        segment = ResponseBuilder(
            1, first, RequestEcho(creation.query.request), EventWriter(frames, -1), None
        )
        segment.in_progress()
        first.completed_time.GetCurrentTime()
        segment.finish("completed", first)
        for frame in frames:
            await connection.send(data_of(frame), self.stream_id)
        self._keep(segment.id, ConnectionContext(context, creation.previous, creation.conversation))

    def _keep(self, id: str, context: ConnectionContext) -> None:
        """Keeps the context of the lane's last response, as OpenAI does, and drops the one before."""
        self._connection.contexts.pop(self._kept, None)
        self._kept = id
        self._connection.contexts[id] = context

    def _follow(self, translator: ResponseTranslator) -> None:
        """Notes which response is in progress, and which input the run has read."""
        segment = translator.wanted
        if segment is None or segment.id == self.active:
            return
        if self.active:
            self._connection.ended(self.active)
        self.active = segment.id
        taken = {message.id for segment in translator.told for message in segment.input}
        self.told = [
            steer for steer in self.told if not taken.intersection(message.id for message in steer.messages)
        ]
        for steer in self.told:
            steer.previous = segment.id

    async def _after(
        self, body: dict[str, Any], response: dict[str, Any], *, paused: bool
    ) -> dict[str, Any] | None:
        """Handles input that the run did not read. Returns the creation that contains it, if it becomes a
        response of its own.
        """
        told, connection = self.told, self._connection
        if not told:
            return None
        if response["status"] != "completed" or paused:
            words = "the response ended before the agent read the input"
            await self._give_back("response_already_completed", words)
            return None
        self.told = []
        if required := required_input(response):
            connection.owed[response["id"]] = told
            for steer in told:
                await connection.tell(pending_event(steer, required), self.stream_id)
            return None
        body = {**body, "input": [item for steer in told for item in steer.items]}
        return body if body.get("conversation") else {**body, "previous_response_id": response["id"]}

    async def _give_back(self, code: str, words: str) -> None:
        told, self.told = self.told, []
        for steer in told:
            event = failed_event(steer.previous, steer.input, code, words, steer.id)
            await self._connection.tell(event, self.stream_id)


def _items(value: Any) -> list[Any] | None:
    """Returns the input as items; None when there is none, or it is invalid and will be refused."""
    if isinstance(value, str):
        return [{"type": "message", "role": "user", "content": value}]
    return value if isinstance(value, list) else None


def _said(translator: ResponseTranslator) -> list[Any]:
    """Returns the output of a run's responses, and the input between them."""
    items: list[Any] = []
    for place, segment in enumerate(translator.told):
        if place:
            items += [message_item(message) for message in segment.input]
        items += segment.json()["output"]
    return items


def _prewarms(body: dict[str, Any]) -> bool:
    options = body.get("prompt_cache_options")
    return isinstance(options, dict) and options.get("prewarm") is True
