"""Renders a response's stream: each event is an SSE frame and a send of its own; `[DONE]` is the last."""

import logging
from collections.abc import Sequence
from typing import Any

from starlette.responses import Response

from portico.client import PorticoError
from portico.gateways.http.sse_stream import Frames, first_response, id_headers
from portico.gateways.openai.errors import OpenAiError, error_response, error_text, from_core
from portico.gateways.openai.responses.stream.event_writer import dumps
from portico.gateways.openai.responses.stream.translator import ResponseTranslator

log = logging.getLogger(__name__)

DONE = b"data: [DONE]\n\n"
_AHEAD = OpenAiError(
    "'starting_after' is beyond the last event.", code="cursor_ahead", param="starting_after"
)


class ResponseEvents:
    """Renders one stream; a stream that fails ends with an `error` event."""

    def __init__(self, translator: ResponseTranslator, request_id: str = "") -> None:
        self._translator = translator
        self._request_id = request_id

    def headers(self, run_id: str, frames: Frames | tuple[()]) -> list[tuple[bytes, bytes]]:
        response = first_response(frames)
        headers = id_headers(run_id, "" if response is None else response.session_id)
        if self._request_id:
            headers.append((b"x-request-id", self._request_id.encode()))
        return headers

    def events(self, frames: Frames) -> Sequence[bytes | None]:
        told = self._translator.add_frames(frames)
        if not self._translator.done:
            return told
        if self._translator.ahead:
            told.append(self._error(_AHEAD))
        return (*told, DONE, None)

    def ended(self, *, stopping: bool) -> bytes:
        if self._translator.done:
            return b""
        if stopping:
            stops = OpenAiError("this gateway is stopping; use another one", status=503, code="draining")
            return self._error(stops) + DONE
        return DONE

    def refusal(self, error: PorticoError) -> Response:
        return error_response(from_core(error), self._request_id)

    def failure(self, error: Exception) -> bytes:
        return self._error(error_text(error, log, self._request_id)) + DONE

    def _error(self, error: OpenAiError) -> bytes:
        said = dumps(error_event(error, self._translator.next_number))
        return b"event: error\ndata: %b\n\n" % said


def error_event(error: OpenAiError, number: int) -> dict[str, Any]:
    """Returns an error event in both formats that clients read: OpenAI's is flat, that of Open Responses
    nested.
    """
    flat = {"code": error.code, "message": error.message, "param": error.param}
    return {"type": "error", "sequence_number": number, **flat, "error": {"type": error.type, **flat}}
