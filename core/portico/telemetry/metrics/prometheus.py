"""Serves this process's metrics in Prometheus' text format."""

import ipaddress
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest, start_http_server

MEDIA_TYPE = CONTENT_TYPE_LATEST


def text() -> bytes:
    """All metrics as text. May block: call it in a thread."""
    return generate_latest()


@contextmanager
def served(address: str) -> Iterator[int]:
    """Serves the metrics on `host:port` in a separate thread; yields the port. Raises OSError, ValueError.

    On a loopback address only requests with a loopback Host are served, so that a web page can't read the
    metrics under a host name that resolves to loopback (DNS rebinding).
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise ValueError(f"metrics-listen must be host:port, not {address!r}")
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
    """Whether a `host:port` is a loopback address or localhost; names are not resolved."""
    try:
        host = urlsplit(f"//{authority}").hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
