"""Errors of the proxy, which the gateway answers itself with a status and a code."""

from starlette.responses import Response

from portico.client import PorticoError
from portico.gateways.sse.errors import error_response, from_core


class PortFailure(Exception):
    """The server sent no answer that may pass; status and code say why."""

    def __init__(self, status: int, code: str, words: str) -> None:
        super().__init__(words)
        self.status, self.code, self.words = status, code, words

    def response(self) -> Response:
        """Returns the answer, which must not be cached."""
        return error_response(self.status, self.code, self.words, headers={"cache-control": "no-store"})


def protocol_error(words: str) -> PortFailure:
    """Returns the failure for a server that broke the protocol or sent forbidden content."""
    return PortFailure(502, "PORT_PROTOCOL", words)


def timeout_error(seconds: float) -> PortFailure:
    """Returns the failure for a server that was silent for too long."""
    return PortFailure(504, "PORT_TIMEOUT", f"the server in the sandbox has sent nothing for {seconds:g} s")


def unreachable(error: PorticoError) -> Response:
    """Returns the answer when the core opens no connection: no server listens, or the core refuses the
    call.
    """
    if error.reason == "PORT_REFUSED":
        return PortFailure(
            502, "PORT_REFUSED", "no server in the sandbox listens on the port, or it closed the connection"
        ).response()
    return from_core(error)
