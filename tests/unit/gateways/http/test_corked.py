"""A corked transport writes once a turn, loses nothing at its close, and is the inner one otherwise."""

import asyncio
from typing import Any

from portico.gateways.http.corked import CorkedTransport


class Inner(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: Any) -> None:
        assert not self.closed
        self.written.append(bytes(data))

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def get_write_buffer_size(self) -> int:
        return 0


async def test_writes_of_one_turn_are_one() -> None:
    inner = Inner()
    corked = CorkedTransport(inner, asyncio.get_running_loop())
    corked.write(b"a")
    corked.write(b"b")
    assert inner.written == []
    assert corked.get_write_buffer_size() == 2
    await asyncio.sleep(0)
    corked.write(b"c")
    await asyncio.sleep(0)
    assert inner.written == [b"ab", b"c"]


async def test_close_writes_what_is_left() -> None:
    inner = Inner()
    corked = CorkedTransport(inner, asyncio.get_running_loop())
    corked.write(b"a")
    corked.close()
    assert (inner.written, inner.closed) == ([b"a"], True)
    await asyncio.sleep(0)
    assert inner.written == [b"a"]


async def test_abort_drops_it_and_a_lost_connection_takes_nothing() -> None:
    inner = Inner()
    corked = CorkedTransport(inner, asyncio.get_running_loop())
    corked.write(b"a")
    corked.abort()
    await asyncio.sleep(0)
    corked.write(b"b")
    await asyncio.sleep(0)
    assert inner.written == []
