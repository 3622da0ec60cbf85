"""What Prometheus reads: metrics of this process, in its text format."""

import ipaddress
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest, start_http_server

MEDIA_TYPE = CONTENT_TYPE_LATEST


def text() -> bytes:
    """All metrics. It may take a while: call it in a thread."""
    return generate_latest()


@contextmanager
def served(address: str) -> Iterator[int]:
    """On a port of its own, in a thread of its own; yields the port. Raises OSError, ValueError.

    Where only this machine can ask, a page must not ask under a name that it has pointed at it.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise ValueError(f"metrics-listen is host:port, not {address!r}")
    try:
        server, thread = start_http_server(int(port), host.strip("[]"))
    except OSError as error:
        raise OSError(f"can't serve metrics on {address}: {error.strerror or error}") from None
    if _is_loopback(address):
        server.set_app(_unless_rebound(server.get_app()))
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _unless_rebound(app: Any) -> Callable[[dict[str, Any], Any], Iterable[bytes]]:
    def guarded(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if _is_loopback(environ.get("HTTP_HOST", "")):
            told: Iterable[bytes] = app(environ, start_response)
            return told
        start_response("421 Misdirected Request", [("content-type", "text/plain")])
        return [b"ask for localhost\n"]

    return guarded


def _is_loopback(authority: str) -> bool:
    """Whether a `host:port` is this machine's own, whatever a name resolves to."""
    try:
        host = urlsplit(f"//{authority}").hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
