"""Responses over a WebSocket: receives creations and steering, sends the events of all lanes."""

import asyncio
import logging
from collections import deque
from contextlib import suppress
from typing import Any

from starlette.types import Message, Receive, Scope, Send

from portico.client import PorticoError
from portico.gateways.http.core_connection import CoreConnection, caller_metadata
from portico.gateways.http.errors import BadRequest
from portico.gateways.http.request.body import Disconnected
from portico.gateways.openai.errors import OpenAiError, error_json, error_text, invalid, request_id
from portico.gateways.openai.json_depth import load
from portico.gateways.openai.models import COMPATIBLE
from portico.gateways.openai.responses.response_ids import run_of
from portico.gateways.openai.responses.run_opener import RunOpener
from portico.gateways.openai.responses.stream.event_writer import dumps
from portico.gateways.openai.responses.websocket.response_queue import ConnectionContext, ResponseQueue
from portico.gateways.openai.responses.websocket.steering import (
    Steer,
    accepted_event,
    failed_event,
    failure_code,
    read_steer,
)
from portico.gateways.openai.settings import OpenAiSettings

log = logging.getLogger(__name__)

MAX_LANES = 32
REMEMBERED = 256  # ended responses that are remembered, to explain why they can't be steered
_LIMIT = "This connection has reached its time limit; open a new one."
_NORMAL, _RESTART = 1000, 1012


class WebSocketEndpoint:
    """The ASGI application for WebSocket connections."""

    def __init__(self, core: CoreConnection, opener: RunOpener, settings: OpenAiSettings) -> None:
        self._core = core
        self._opener = opener
        self._settings = settings
        self._open: set[_Connection] = set()
        self._stopped = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        connection = _Connection(self._core, self._opener, self._settings, scope, receive, send)
        self._open.add(connection)
        if self._stopped:
            connection.stopping.set()
        try:
            await connection.run()
        finally:
            self._open.discard(connection)

    def stop(self) -> None:
        """Closes all connections; the events are in the runs' logs."""
        self._stopped = True
        for connection in self._open:
            connection.stopping.set()


class _Connection:
    def __init__(
        self,
        core: CoreConnection,
        opener: RunOpener,
        settings: OpenAiSettings,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        self.id = request_id(scope["headers"])
        self.metadata = {**caller_metadata(scope["headers"]), "x-request-id": self.id}
        self.compatible = scope["path"].startswith(COMPATIBLE)
        self.contexts: dict[str, ConnectionContext] = {}
        self.owed: dict[str, list[Steer]] = {}
        self.stopping = asyncio.Event()
        self._client = core.client.with_options(metadata=self.metadata)
        self._opener = opener
        self._settings = settings
        self._receive = receive
        self._send = send
        self._lanes: dict[str, ResponseQueue] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._ended: deque[str] = deque(maxlen=REMEMBERED)
        self._number = 0  # number of the next event that belongs to no response

    async def run(self) -> None:
        await self._receive()  # websocket.connect
        with suppress(Disconnected):  # the caller has disconnected
            await self._put({"type": "websocket.accept", "headers": [(b"x-request-id", self.id.encode())]})
            await self._talk()

    async def _talk(self) -> None:
        reading = asyncio.create_task(self._read())
        stopping = asyncio.create_task(self.stopping.wait())
        try:
            await asyncio.wait(
                {reading, stopping},
                timeout=self._settings.websocket_seconds,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if not reading.done():
                await self._end()
            else:
                reading.result()
        finally:
            tasks = [reading, stopping, *self._tasks]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def send(self, data: bytes, stream_id: str) -> None:
        """Sends an event of a response. Raises Disconnected."""
        if stream_id:
            data = b'{"stream_id":%b,%b' % (dumps(stream_id), data[1:])
        await self._put({"type": "websocket.send", "text": data.decode()})

    async def _put(self, message: Message) -> None:
        try:
            await self._send(message)
        except OSError:
            # ASGI reports in this way that the caller has disconnected.
            raise Disconnected from None

    async def tell(self, event: dict[str, Any], stream_id: str) -> None:
        """Sends an event of the connection itself."""
        number = self._number
        self._number += 1
        await self.send(dumps({**event, "sequence_number": number}), stream_id)

    async def refuse(self, error: OpenAiError, stream_id: str) -> None:
        event = {"type": "error", "status": error.status, **error_json(error)}
        await self.send(dumps(event), stream_id)

    def ended(self, response_id: str) -> None:
        self._ended.append(response_id)

    async def _end(self) -> None:
        if self.stopping.is_set():
            error = OpenAiError("this gateway is stopping; connect again", status=503, code="draining")
            code = _RESTART
        else:
            error = OpenAiError(_LIMIT, code="websocket_connection_limit_reached")
            code = _NORMAL
        await self.refuse(error, "")
        await self._put({"type": "websocket.close", "code": code})

    async def _read(self) -> None:
        while True:
            message = await self._receive()
            if message["type"] == "websocket.disconnect":
                return
            stream_id = ""
            try:
                body = self._load(message)
                stream_id = _stream_id(body)
                await self._take(body, stream_id)
            except Exception as error:
                await self.refuse(error_text(error, log, self.id), stream_id)

    def _load(self, message: Any) -> dict[str, Any]:
        text = message.get("text")
        data: str | bytes = message["bytes"] if text is None else text
        limit = self._settings.max_body_bytes
        if len(data) > limit:
            problem = f"the message is larger than {limit} bytes"
            raise OpenAiError(problem, status=413, code="request_too_large")
        try:
            return load(data)
        except BadRequest as bad:
            code = "invalid_value" if bad.field else "invalid_json"
            raise OpenAiError(bad.message, code=code, param=bad.field or None) from None

    async def _take(self, body: dict[str, Any], stream_id: str) -> None:
        match body.get("type"):
            case "response.create":
                lane = self._lane(stream_id)
                try:
                    lane.queue.put_nowait(body)
                except asyncio.QueueFull:
                    problem = "too many creations wait on this stream_id; wait for its responses"
                    raise OpenAiError(problem, status=429, code="rate_limit_exceeded") from None
            case "response.steer":
                await self._steer(body)
            case _:
                raise invalid("type", "must be response.create or response.steer")

    def _lane(self, stream_id: str) -> ResponseQueue:
        lane = self._lanes.get(stream_id)
        if lane is not None:
            return lane
        if len(self._lanes) >= MAX_LANES:
            problem = f"the connection already has {MAX_LANES} stream_ids, the most allowed"
            raise OpenAiError(problem, status=429, code="rate_limit_exceeded", param="stream_id")
        lane = self._lanes[stream_id] = ResponseQueue(self, self._opener, stream_id, self.id)
        self._tasks.append(asyncio.create_task(lane.work()))
        return lane

    async def _steer(self, body: dict[str, Any]) -> None:
        previous = body.get("previous_response_id")
        lane = next((lane for lane in self._lanes.values() if previous and lane.active == previous), None)
        stream_id = "" if lane is None else lane.stream_id
        try:
            steer = read_steer(body)
        except (OpenAiError, BadRequest) as error:
            await self._not_taken(previous, body.get("input"), error, stream_id)
            return
        if lane is None:
            ended = previous in self._ended
            code = "response_already_completed" if ended else "response_not_found"
            words = "the response has ended" if ended else "the response is not active on this connection"
            await self.tell(failed_event(previous, steer.input, code, words), "")
            return
        # The lane owns it from here on; input that the run does not read becomes a response of its own.
        lane.told.append(steer)
        await self.tell(accepted_event(steer), stream_id)
        try:
            await self._client.runs.steer(run_of(steer.previous)[0], steer.messages)
        except PorticoError as error:
            if error.reason != "RUN_TERMINAL" and steer in lane.told:
                lane.told.remove(steer)
                await self._not_taken(steer.previous, steer.input, error, stream_id, steer.id)

    async def _not_taken(
        self, previous: Any, input: Any, error: Exception, stream_id: str, id: str = ""
    ) -> None:
        code, words = failure_code(error)
        await self.tell(failed_event(previous, input, code, words, id), stream_id)


def _stream_id(body: dict[str, Any]) -> str:
    value = body.get("stream_id")
    if value is None:
        return ""
    if not isinstance(value, str) or not 0 < len(value) <= 256:
        raise invalid("stream_id", "must be a string of 1 to 256 characters", "invalid_type")
    return value
