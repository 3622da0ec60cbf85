"""RPC channel: all ways in which calls and streams end."""

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from portico.core.hosts.worker.rpc_channel import ChannelClosed, WorkerChannel


class Service:
    def __init__(self) -> None:
        self.closed: list[str] = []
        self.noted: list[Any] = []

    def serve(self, method: str, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
        if method == "nonsense":
            raise LookupError("no such method")
        return getattr(self, method)(*args, **named), None

    def note(self, method: str, args: tuple[Any, ...]) -> None:
        self.noted.append((method, *args))

    async def echo(self, value: object) -> object:
        return value

    async def fail(self) -> None:
        raise ValueError("words")

    async def wait(self) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            self.closed.append("wait")

    async def count(self, most: int) -> AsyncIterator[int]:
        try:
            for number in range(most):
                yield number
            raise ValueError("over")
        finally:
            self.closed.append("count")


@pytest.fixture
async def ends() -> AsyncIterator[tuple[WorkerChannel, Service, socket.socket]]:
    """One end, the service at the other end, and the other end's socket."""
    here, there = socket.socketpair()
    loop = asyncio.get_running_loop()
    service = Service()
    _, near = await loop.create_unix_connection(lambda: WorkerChannel(lambda _: Service()), sock=here)
    _, far = await loop.create_unix_connection(lambda: WorkerChannel(lambda _: service), sock=there)
    yield near, service, there
    for channel in (near, far):
        channel.close()
        await channel.closed


Ends = tuple[WorkerChannel, Service, socket.socket]


async def until(condition: Any) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


async def test_calls_are_answered_or_raise(ends: Ends) -> None:
    channel, service, _ = ends
    assert await channel.call("echo", "x" * 5_000_000) == "x" * 5_000_000
    with pytest.raises(ValueError, match="words"):
        await channel.call("fail")
    with pytest.raises(LookupError, match="no such method"):
        await channel.call("nonsense")
    channel.send_notification("by the way", 1)
    assert await channel.call("echo", 1) == 1
    assert service.noted == [("by the way", 1)]


async def test_a_call_that_is_cancelled_is_cancelled_over_there(ends: Ends) -> None:
    channel, service, _ = ends
    call = asyncio.create_task(channel.call("wait"))
    await asyncio.sleep(0.02)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await until(lambda: service.closed == ["wait"])


async def test_a_stream_is_pulled_raises_and_is_closed_when_it_is_left(ends: Ends) -> None:
    channel, service, _ = ends
    stream = channel.stream("count", 3)
    assert [await anext(stream) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="over"):
        await anext(stream)
    stream = channel.stream("count", 1000)
    assert await anext(stream) == 0
    await stream.aclose()
    await until(lambda: service.closed == ["count", "count"])


@pytest.mark.parametrize("garbage", [b"\xff" * 8, b"\x00\x00\x00\x02\xff\xff", b"\x00\x00\x00\x04N."])
async def test_bytes_that_are_no_frames_end_the_channel(garbage: bytes) -> None:
    here, there = socket.socketpair()
    loop = asyncio.get_running_loop()
    _, channel = await loop.create_unix_connection(lambda: WorkerChannel(lambda _: Service()), sock=here)
    call = asyncio.create_task(channel.call("echo", 1))
    await asyncio.sleep(0)
    with there:
        there.send(garbage + b"\x00" * 8)
        with pytest.raises(ChannelClosed):
            await asyncio.wait_for(call, 5)
    assert channel.problem
    with pytest.raises(ChannelClosed):
        await channel.call("echo", 1)
