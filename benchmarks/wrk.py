"""Generates load with wrk: many clients, each with one request after the other."""

import json
import resource
import subprocess
import threading
from pathlib import Path
from typing import Any
from uuid import uuid4

from benchmarks.client import Client
from benchmarks.requests import BrokenReply
from benchmarks.results import Throughput
from benchmarks.servers import Server
from benchmarks.wires import NUMBER, PROCESS, Wire

SCRIPT = Path(__file__).parent / "load/post.lua"
SAMPLE_EVERY = 0.5


def load(
    server: Server,
    *,
    tokens: int,
    clients: int,
    seconds: int,
    wire: Wire = PROCESS,
    pace: str = "",
    spread: float = 0,
) -> Throughput:
    """Measures replies of this many tokens. A client beside wrk checks complete replies meanwhile.

    `pace` is the agent's instruction before the number; the starts of the clients are spread over `spread`
    seconds.
    """
    text = f"{pace} {tokens}".lstrip()
    sampler = _Sampler(server, tokens, wire, text)
    with sampler:
        seen = _wrk(server, wire, text, clients, seconds, spread)
    _check(seen, sampler.reply_bytes, clients)
    # Counted by bytes, so that replies in flight at the end count in proportion: slow servers answer fifty
    # clients in lockstep, and complete replies come in steps of fifty.
    replies = seen["bytes"] / sampler.reply_bytes
    return Throughput(
        replies_per_second=replies / (seen["duration"] / 1e6),
        median_ms=seen["median"] / 1e3,
        p95_ms=seen["p95"] / 1e3,
        p99_ms=seen["p99"] / 1e3,
        generator_cpu=seen["cpu"],
    )


def version() -> str:
    output = subprocess.run(["wrk", "--version"], capture_output=True, text=True).stdout
    return output.split()[1]


def _wrk(server: Server, wire: Wire, text: str, clients: int, seconds: int, spread: float) -> dict[str, Any]:
    command = ["wrk", "-t1", f"-c{clients}", f"-d{seconds}s", "--timeout", "30s", "-s", str(SCRIPT)]
    if server.credential:
        command += ["-H", f"Authorization: Bearer {server.credential}"]
    template = wire.template(text).replace(NUMBER, f"{uuid4().hex[:8]}-{NUMBER}")
    command += [f"{server.url}{wire.path}", "--", template]
    if spread:
        command += [str(clients), str(round(spread * 1000))]
    before = _spent()
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    seen: dict[str, Any] = json.loads(output.splitlines()[-1])
    return {**seen, "cpu": (_spent() - before) / seconds}


def _spent() -> float:
    """Returns the CPU seconds of child processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _check(seen: dict[str, Any], reply_bytes: int, clients: int) -> None:
    errors = {name: seen[name] for name in ("connect", "read", "write", "status", "timeout") if seen[name]}
    if errors:
        raise BrokenReply(f"wrk met errors: {errors}")
    short = seen["requests"] * reply_bytes * 0.98
    long = (seen["requests"] + clients) * reply_bytes * 1.02
    if not short <= seen["bytes"] <= long:
        raise BrokenReply(f"{seen['requests']} replies of {reply_bytes} bytes came as {seen['bytes']} bytes")


class _Sampler:
    """Sends a request twice a second beside the load, and checks the complete reply."""

    def __init__(self, server: Server, tokens: int, wire: Wire, text: str) -> None:
        self.reply_bytes = 0
        self._server = server
        self._tokens = tokens
        self._wire = wire
        self._text = text
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
                    reply = client.fetch(self._wire.ask(self._text, self._server.credential))
                    self._wire.check(reply.raw, self._tokens)
                    self.reply_bytes = len(reply.raw)
                    self._stop.wait(SAMPLE_EVERY)
        except Exception as error:
            self._failure = error
