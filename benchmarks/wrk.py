"""wrk as load: many clients, each with one request after the other."""

import json
import subprocess
import threading
from pathlib import Path
from typing import Any
from uuid import uuid4

from benchmarks.client import Client
from benchmarks.requests import BrokenReply, ask, check
from benchmarks.results import Throughput
from benchmarks.servers import Server

SCRIPT = Path(__file__).parent / "load/process.lua"
SAMPLE_EVERY = 0.5


def load(server: Server, *, tokens: int, clients: int, seconds: int) -> Throughput:
    """Replies of so many tokens. A client beside wrk checks whole replies all the while."""
    sampler = _Sampler(server, tokens)
    with sampler:
        seen = _wrk(server, tokens, clients, seconds)
    _check(seen, sampler.reply_bytes, clients)
    # By bytes, so that the replies in flight at the end count by what had arrived of them: slow
    # servers answer fifty clients in lockstep, and whole replies come in steps of fifty.
    replies = seen["bytes"] / sampler.reply_bytes
    return Throughput(
        replies_per_second=replies / (seen["duration"] / 1e6),
        median_ms=seen["median"] / 1e3,
        p99_ms=seen["p99"] / 1e3,
    )


def version() -> str:
    output = subprocess.run(["wrk", "--version"], capture_output=True, text=True).stdout
    return output.split()[1]


def _wrk(server: Server, tokens: int, clients: int, seconds: int) -> dict[str, Any]:
    command = ["wrk", "-t1", f"-c{clients}", f"-d{seconds}s", "--timeout", "30s", "-s", str(SCRIPT)]
    command += [f"{server.url}/process", "--", str(tokens), f"{uuid4().hex[:8]}-"]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    seen: dict[str, Any] = json.loads(output.splitlines()[-1])
    return seen


def _check(seen: dict[str, Any], reply_bytes: int, clients: int) -> None:
    errors = {name: seen[name] for name in ("connect", "read", "write", "status", "timeout") if seen[name]}
    if errors:
        raise BrokenReply(f"wrk met errors: {errors}")
    short = seen["requests"] * reply_bytes * 0.98
    long = (seen["requests"] + clients) * reply_bytes * 1.02
    if not short <= seen["bytes"] <= long:
        raise BrokenReply(f"{seen['requests']} replies of {reply_bytes} bytes came as {seen['bytes']} bytes")


class _Sampler:
    """Asks twice a second, beside the load, and checks the whole reply."""

    def __init__(self, server: Server, tokens: int) -> None:
        self.reply_bytes = 0
        self._server = server
        self._tokens = tokens
        self._stop = threading.Event()
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._sample)

    def __enter__(self) -> "_Sampler":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    def _sample(self) -> None:
        try:
            with Client(self._server.address) as client:
                while not self._stop.is_set():
                    reply = client.fetch(ask(str(self._tokens)))
                    check(reply.raw, self._tokens)
                    self.reply_bytes = len(reply.raw)
                    self._stop.wait(SAMPLE_EVERY)
        except Exception as error:
            self._failure = error
