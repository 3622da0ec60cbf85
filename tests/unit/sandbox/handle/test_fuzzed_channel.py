"""Every operation of a sandbox handle with arbitrary answers of the supervisor: it raises only SandboxErrors.

PORTICO_FUZZ_EXAMPLES is the number of answers per operation; by default they are the same in every run.
"""

import asyncio
import json
import os
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.fake_agent import OPERATIONS, faked

from portico.sandbox import errors
from portico.sandbox.egress.proxy import Egress
from portico.sandbox.inside import wire
from portico.sandbox.spec import NetworkPolicy

EXAMPLES = int(os.environ.get("PORTICO_FUZZ_EXAMPLES", "15"))
ENTRY = {"path": "a", "type": "file", "size": 1, "mode": 420, "modified": 1.0, "accessed": 1, "changed": 1}
PROCESS = {
    "pid": 3, "command": ["x"], "tty": False, "exit_code": None, "started": 1.0, "output_start": 0,
    "output_end": 0,
}  # fmt: skip
ERROR = {"kind": "limit", "limit": "disk", "message": "m", "kernel_lost": True, "exit_code": -9}
RAISED = {"name": "E", "message": "m", "traceback": "t", "limit": None}
FIELDS: dict[str, Any] = {
    **PROCESS, "exit_code": 0, "offset": 0, "size": 1, "entry": ENTRY, "entries": [ENTRY],
    "processes": [PROCESS], "diff": "d", "count": 1, "checkpoints": ["a"], "dropped": ["a/b"],
    "limit": "output", "cancelled": True, "disk_bytes": 1, "inodes": 1, "error": ERROR, "type": "created",
    "path": "a", "directory": False, "bytes": 1, "line": 1, "truncated": False,
    "boot": "b", "mounts": [[1, 2]], "version": "1-2",
}  # fmt: skip
ODD: list[Any] = [
    None, True, -1, 0, 1 << 31, 1 << 63, 10**30, 1e300, float("nan"), float("inf"), "", "\ud800", "\udc80",
    "a\0", "x" * 9_000, [], [[]], {}, [1], {"kind": 1}, RAISED, ERROR, {"kind": "boot", "message": None},
    ["\ud800"],
]  # fmt: skip

values = st.one_of(st.sampled_from(ODD), st.sampled_from(list(FIELDS.values())), st.integers(), st.text())
fields = {name: st.just(value) | values for name, value in FIELDS.items()}
encoded = st.fixed_dictionaries({}, optional=fields).map(lambda message: json.dumps(message).encode())
garbage = st.one_of(
    st.binary(max_size=200),
    st.sampled_from([b"null", b"[1]", b"{", b'{"a":' + b"9" * 5_000 + b"}", b"[" * 5_000, b'"\\ud800"']),
)
rich = st.builds(
    wire.pack_rich,
    st.sampled_from(["result", "display", "x"]),
    st.dictionaries(st.sampled_from(["text/plain", "image/png", "", "\xff"]), st.binary(max_size=20)),
)
payloads = st.one_of(encoded, encoded, garbage, rich)
kinds = st.sampled_from([wire.OUT, wire.ERR, wire.EVENT, wire.RICH, wire.END, wire.ACK, wire.CALL, 0, 99])
numbers = st.sampled_from([0, 0, 0, 0, 0, 1, wire.AGENT_CALL])  # added to the call's number
frames = st.lists(st.tuples(numbers, kinds, payloads), max_size=6)
ends = st.one_of(encoded, encoded, encoded, garbage, st.none())


asked = st.one_of(
    st.binary(max_size=200),
    st.sampled_from(
        [
            b"GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n",
            b"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n",
            b"POST http://a.example/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\n",
            b"\r\n",
            b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00",
        ]
    ),
)
spoken = st.tuples(st.sampled_from([wire.OUT, wire.OUT, wire.OUT, wire.EVENT, wire.END]), asked | encoded)
connections = st.lists(st.tuples(st.integers(1, 3), spoken), max_size=10)


class _Failed(Exception):
    pass


_fuzzed = settings(
    max_examples=EXAMPLES,
    derandomize="PORTICO_FUZZ_EXAMPLES" not in os.environ,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_operation_meets_any_answer(operation: str) -> None:
    with asyncio.Runner() as runner:

        @_fuzzed
        @given(frames, ends, st.booleans())
        def meets(said: list[tuple[int, int, bytes]], end: bytes | None, proxied: bool) -> None:
            runner.run(_meet(operation, said, end, proxied))

        meets()


def test_the_proxy_meets_any_connection() -> None:
    with asyncio.Runner() as runner:

        @_fuzzed
        @given(connections)
        def meets(said: list[tuple[int, tuple[int, bytes]]]) -> None:
            runner.run(_connect(said))

        meets()


async def _connect(said: list[tuple[int, tuple[int, bytes]]]) -> None:
    """Up to three connections from inside with arbitrary data."""
    problems: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _loop, problem: problems.append(problem))
    async with faked() as box:
        box.channel.on_connect = Egress(NetworkPolicy(("a.example",)), _lookup).serve
        for number in {number for number, _ in said}:
            await loop.sock_sendall(box.far, wire.pack_json(wire.AGENT_CALL | number, wire.CALL, {}))
        for number, (kind, payload) in said:
            with suppress(OSError):
                await loop.sock_sendall(box.far, wire.pack(wire.AGENT_CALL | number, kind, payload))
        await asyncio.sleep(0.01)
        held = list(box.channel._tasks.values())
    await asyncio.gather(*held, return_exceptions=True)
    if problems:
        raise _Failed(problems)


async def _meet(operation: str, said: list[tuple[int, int, bytes]], end: bytes | None, proxied: bool) -> None:
    problems: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, problem: problems.append(problem))

    def make(number: int, _request: dict[str, Any]) -> Iterable[bytes]:
        for other, kind, payload in said:
            yield wire.pack(number + other, kind, payload)
        if end is not None:
            yield wire.pack(number, wire.END, end)

    async with faked(make) as box:
        if proxied:
            box.channel.on_connect = Egress(NetworkPolicy(("a.example",)), _lookup).serve
        try:
            async with asyncio.timeout(20):
                await OPERATIONS[operation](box)
        except errors.SandboxError:
            pass
        held = list(box.channel._tasks.values())
    await asyncio.gather(*held, return_exceptions=True)
    if problems:
        raise _Failed(problems)


def _lookup(_host: str, _port: int) -> list[str]:
    return []
