"""Resolution of names without delaying other tasks, and connections to one of several addresses."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from ipaddress import ip_address

import pytest
from support.egress import origin

from portico.sandbox.egress import dialing, resolver
from portico.sandbox.egress.dialing import dial
from portico.sandbox.egress.refusal import RequestRefused
from portico.sandbox.egress.resolver import Resolver, system_lookup


class Slow:
    """A name server that answers when the test releases it."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.asked = 0

    def __call__(self, _host: str, _port: int) -> list[str]:
        self.asked += 1
        self.go.wait(60)
        return ["127.0.0.1"]


@pytest.fixture
def slow() -> Iterator[Slow]:
    server = Slow()
    yield server
    server.go.set()


async def test_the_systems_names_are_resolved() -> None:
    assert ip_address("127.0.0.1") in await Resolver().addresses("localhost", 80)
    assert "127.0.0.1" in system_lookup("localhost", 80)


@pytest.mark.parametrize(
    "answer", [[], ["nonsense"], OSError("no such name"), UnicodeError("label too long")]
)
async def test_a_name_without_an_address_is_refused(answer: list[str] | Exception) -> None:
    def lookup(_host: str, _port: int) -> list[str]:
        if isinstance(answer, Exception):
            raise answer
        return answer

    with pytest.raises(RequestRefused) as refused:
        await Resolver(lookup).addresses("a.test", 80)
    assert refused.value.status == 502


async def test_an_address_is_told_once() -> None:
    found = await Resolver(lambda *_: ["127.0.0.1", "::1", "127.0.0.1"]).addresses("a.test", 80)
    assert found == [ip_address("127.0.0.1"), ip_address("::1")]


async def test_a_slow_name_server_holds_up_only_its_own_sandbox(
    slow: Slow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolver, "_SECONDS", 0.3)
    hostile, other = Resolver(slow), Resolver(lambda *_: ["127.0.0.1"])
    waiting = [asyncio.ensure_future(hostile.addresses("a.test", 80)) for _ in range(50)]
    await asyncio.sleep(0.05)
    begun = time.monotonic()
    assert await other.addresses("b.test", 80)
    assert time.monotonic() - begun < 0.25 * 10
    ends = await asyncio.gather(*waiting, return_exceptions=True)
    assert {end.status for end in ends if isinstance(end, RequestRefused)} == {504}
    with pytest.raises(RequestRefused):  # the threads still exist, so no more are started
        await hostile.addresses("a.test", 80)
    assert slow.asked == resolver._EACH
    slow.go.set()
    monkeypatch.setattr(resolver, "_SECONDS", 10.0)
    assert await hostile.addresses("a.test", 80)


async def test_all_sandboxes_together_have_so_many_lookups(
    slow: Slow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolver, "_ALL", threading.BoundedSemaphore(2))
    waiting = [asyncio.ensure_future(Resolver(slow).addresses("a.test", 80)) for _ in range(2)]
    await asyncio.sleep(0.05)
    late = Resolver(slow)
    for _ in range(resolver._EACH + 1):  # a refusal occupies no place
        with pytest.raises(RequestRefused) as refused:
            await late.addresses("a.test", 80)
        assert refused.value.status == 503
    slow.go.set()
    await asyncio.gather(*waiting)
    assert await late.addresses("a.test", 80)


async def test_who_leaves_keeps_no_lookup(slow: Slow) -> None:
    mine = Resolver(slow)
    waiting = asyncio.ensure_future(mine.addresses("a.test", 80))
    await asyncio.sleep(0.05)
    waiting.cancel()
    slow.go.set()
    assert await mine.addresses("a.test", 80)


async def test_the_next_address_is_tried() -> None:
    async with origin(address="127.0.0.8") as host:
        streams = await dial([ip_address("127.0.0.7"), ip_address("127.0.0.8")], host.port)
        assert streams is not None
        assert streams[1].get_extra_info("peername")[0] == "127.0.0.8"
        streams[1].close()
        assert await dial([ip_address("127.0.0.7")], host.port) is None


async def test_an_address_that_says_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    async with origin(address="127.0.0.8") as host:
        with socket.socket() as full:
            full.bind(("127.0.0.7", host.port))
            full.listen(0)
            crowd: list[socket.socket] = []
            while not crowd or crowd[-1].connect_ex(("127.0.0.7", host.port)) == 0:  # until its queue is full
                crowd.append(socket.socket())
                crowd[-1].settimeout(0.2)
            begun = time.monotonic()
            streams = await dial([ip_address("127.0.0.7"), ip_address("127.0.0.8")], host.port)
            assert streams is not None
            assert time.monotonic() - begun < 5
            streams[1].close()
            monkeypatch.setattr(dialing, "_SECONDS", 0.3)
            assert await dial([ip_address("127.0.0.7")], host.port) is None
            for each in crowd:
                each.close()
