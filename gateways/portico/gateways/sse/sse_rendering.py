"""Renders a run's log in the agent protocol, with one send for all frames that are ready."""

import logging
from collections.abc import Sequence
from typing import Any

from starlette.responses import Response

from portico.client import PorticoError
from portico.gateways.http.sse_stream import Frames, first_response, id_headers
from portico.gateways.sse.errors import defect_json, error_json, from_core
from portico.gateways.sse.event_encoding import EventEncoder, dumps, response_json
from portico.v1 import events_pb2

log = logging.getLogger(__name__)

STOPPING = b": this gateway is stopping; resume with your last event id\n\n"


class AgentEvents:
    """Renders one stream; a stream that fails ends with `event: error`."""

    def __init__(self) -> None:
        self._encoder = EventEncoder()

    def headers(self, run_id: str, frames: Frames | tuple[()]) -> list[tuple[bytes, bytes]]:
        response = first_response(frames)
        return id_headers(run_id, "" if response is None else response.session_id)

    def events(self, frames: Frames) -> Sequence[bytes]:
        return (self._encoder.encode(frames),)

    def ended(self, *, stopping: bool) -> bytes:
        return STOPPING if stopping else b""

    def refusal(self, error: PorticoError) -> Response:
        return from_core(error)

    def failure(self, error: Exception) -> bytes:
        if isinstance(error, PorticoError):
            said = error_json(error.reason or error.code.name, error.message, error.metadata)
        else:
            said = defect_json(log)
        return b"event: error\ndata: %b\n\n" % dumps(said)


class LastResponse:
    """Keeps the last response of a log."""

    def __init__(self) -> None:
        self._last: events_pb2.Event | None = None

    def take(self, frames: Frames) -> None:
        for frame in frames:
            for event in frame.events:
                if event.HasField("response"):
                    self._last = event

    def json(self) -> dict[str, Any]:
        """Returns the JSON of the last response. Raises PorticoError if there was none."""
        if self._last is None:
            raise PorticoError("the log contains no response")
        return response_json(self._last.response, self._last.sequence_number)
