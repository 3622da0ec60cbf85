"""A corked transport writes once per turn, loses nothing when closed, and otherwise forwards to the
inner one.
"""

import asyncio
from typing import Any

import pytest
from uvicorn.protocols.http.flow_control import FlowControl

from portico.gateways.http.server.batched_protocol import BatchedTransport, Chunks, WriteBatch


class Inner(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.closed = False
        self.broken = False

    def write(self, data: Any) -> None:
        assert not self.closed
        if self.broken:
            raise OSError("broken")
        self.written.append(bytes(data))

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def get_write_buffer_size(self) -> int:
        return 0


@pytest.fixture
def cork() -> WriteBatch:
    return WriteBatch()


async def test_writes_of_one_turn_are_one(cork: WriteBatch) -> None:
    inner = Inner()
    corked = BatchedTransport(inner, cork)
    corked.write(b"a")
    corked.write(b"b")
    assert inner.written == []
    assert corked.get_write_buffer_size() == 2
    await asyncio.sleep(0)
    corked.write(b"c")
    await asyncio.sleep(0)
    assert inner.written == [b"ab", b"c"]


async def test_close_writes_what_is_left(cork: WriteBatch) -> None:
    inner = Inner()
    corked = BatchedTransport(inner, cork)
    corked.write(b"a")
    corked.close()
    assert (inner.written, inner.closed) == ([b"a"], True)
    await asyncio.sleep(0)
    assert inner.written == [b"a"]


async def test_abort_drops_it_and_a_lost_connection_takes_nothing(cork: WriteBatch) -> None:
    inner = Inner()
    corked = BatchedTransport(inner, cork)
    corked.write(b"a")
    corked.abort()
    await asyncio.sleep(0)
    corked.write(b"b")
    await asyncio.sleep(0)
    assert inner.written == []


async def test_a_connection_that_cannot_write_costs_no_other_its_turn(cork: WriteBatch) -> None:
    problems: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, problem: problems.append(problem))
    inner = [Inner() for _ in range(3)]
    inner[1].broken = True
    corked = [BatchedTransport(one, cork) for one in inner]
    for _ in range(2):
        for one in corked:
            one.write(b"a")
        await asyncio.sleep(0)
    assert [one.written for one in inner] == [[b"a", b"a"], [], [b"a", b"a"]]
    assert [one.closed for one in inner] == [False, True, False]
    assert [problem["message"] for problem in problems] == ["a write failed"]


async def test_each_piece_has_a_chunk_and_nothing_has_none(cork: WriteBatch) -> None:
    inner = Inner()
    corked = BatchedTransport(inner, cork)
    chunks = Chunks(corked, FlowControl(corked))
    corked.write(b"head ")
    chunks.write((b"a" * 16, b"", b"bc", None))
    chunks.write(())
    await asyncio.sleep(0)
    assert inner.written == [b"head 10\r\naaaaaaaaaaaaaaaa\r\n2\r\nbc\r\n"]
