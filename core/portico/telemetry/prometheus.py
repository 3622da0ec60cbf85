"""What Prometheus reads: metrics of this process, in its text format."""

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest, start_http_server

MEDIA_TYPE = CONTENT_TYPE_LATEST


def text() -> bytes:
    """All metrics. It may take a while: call it in a thread."""
    return generate_latest()


@contextmanager
def served(address: str) -> Iterator[int]:
    """On a port of its own, in a thread of its own; yields the port. Raises OSError, ValueError."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise ValueError(f"metrics-listen is host:port, not {address!r}")
    try:
        server, thread = start_http_server(int(port), host.strip("[]"))
    except OSError as error:
        raise OSError(f"can't serve metrics on {address}: {error.strerror or error}") from None
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
