"""How a request to a port fails, as this gateway's own answer."""

from starlette.responses import Response

from portico.client import PorticoError
from portico.gateways.sse.errors import error_response, from_core


class PortFailure(Exception):
    """No answer of the server inside; status and code say why."""

    def __init__(self, status: int, code: str, words: str) -> None:
        super().__init__(words)
        self.status, self.code, self.words = status, code, words

    def response(self) -> Response:
        return error_response(self.status, self.code, self.words, headers={"cache-control": "no-store"})


def broken(words: str) -> PortFailure:
    """What listens inside did not keep to the protocol, or sent what may not pass."""
    return PortFailure(502, "PORT_PROTOCOL", words)


def late(seconds: float) -> PortFailure:
    return PortFailure(504, "PORT_TIMEOUT", f"the server inside has sent nothing for {seconds:g} s")


def unreachable(error: PorticoError) -> Response:
    """The answer when there is no connection: nobody listens, or the core refuses."""
    if error.reason == "PORT_REFUSED":
        return PortFailure(
            502, "PORT_REFUSED", "nothing inside listens on the port, or it hung up"
        ).response()
    return from_core(error)
