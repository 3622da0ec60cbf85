"""Errors of the proxy: the gateway answers them itself, with a status and a code."""

from starlette.responses import Response

from portico.client import PorticoError
from portico.gateways.sse.errors import error_response, from_core


class PortFailure(Exception):
    """The server gave no answer that may pass; status and code say why."""

    def __init__(self, status: int, code: str, words: str) -> None:
        super().__init__(words)
        self.status, self.code, self.words = status, code, words

    def response(self) -> Response:
        return error_response(self.status, self.code, self.words, headers={"cache-control": "no-store"})


def protocol_error(words: str) -> PortFailure:
    """The server broke the protocol, or sent what may not pass."""
    return PortFailure(502, "PORT_PROTOCOL", words)


def timeout_error(seconds: float) -> PortFailure:
    """The server was silent for too long."""
    return PortFailure(504, "PORT_TIMEOUT", f"the server inside has sent nothing for {seconds:g} s")


def unreachable(error: PorticoError) -> Response:
    """The answer when the core opens no connection: nothing listens, or the core refuses the call."""
    if error.reason == "PORT_REFUSED":
        return PortFailure(
            502, "PORT_REFUSED", "nothing inside listens on the port, or it hung up"
        ).response()
    return from_core(error)
