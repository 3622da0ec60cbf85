"""A Redis server for tests."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.engines import missing, need

START_SECONDS = 30


@contextmanager
def redis_server(folder: Path) -> Iterator[str]:
    """Starts a server; yields its URL, with a socket in the folder. It stores nothing on disk."""
    socket = folder / "redis.sock"
    command = [need("redis"), "--port", "0", "--unixsocket", str(socket), "--save", "", "--dir", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as server:
        try:
            until = time.monotonic() + START_SECONDS
            while not socket.exists():
                if server.poll() is not None or time.monotonic() > until:
                    missing("redis", "it does not start")
                time.sleep(0.02)
            yield f"unix://{socket}"
        finally:
            server.terminate()
            server.communicate(timeout=30)
