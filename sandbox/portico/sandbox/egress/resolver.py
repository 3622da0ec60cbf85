"""Resolves names in threads. A lookup cannot be cancelled: its thread ends when the system's resolver
returns."""

import asyncio
import ipaddress
import socket
import threading
from collections.abc import Awaitable, Callable
from typing import Final

from portico.sandbox.egress.host_names import Address
from portico.sandbox.egress.refusal import RequestRefused

_SECONDS: Final = 10.0
_EACH: Final = 4  # concurrent lookups of one sandbox; a hostile name server can make each take a minute
_ALL: Final = threading.BoundedSemaphore(64)  # concurrent lookups of all sandboxes, each in a thread

Lookup = Callable[[str, int], list[str]]


def system_lookup(host: str, port: int) -> list[str]:
    """Resolves a name by the system's resolver. Blocks. Raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


class Resolver:
    """Resolves names for one sandbox."""

    def __init__(self, lookup: Lookup = system_lookup) -> None:
        self._lookup = lookup
        self._places = asyncio.Semaphore(_EACH)

    async def addresses(self, host: str, port: int) -> list[Address]:
        """Returns at least one address, without duplicates. Raises RequestRefused."""
        try:
            async with asyncio.timeout(_SECONDS):
                await self._places.acquire()
                found = await asyncio.shield(self._begin(host, port))
        except TimeoutError:
            raise RequestRefused(504, f"the name {host} was not resolved in {_SECONDS:.0f} s") from None
        except (OSError, UnicodeError):
            found = []
        try:
            addresses = [ipaddress.ip_address(text) for text in dict.fromkeys(found)]
        except ValueError:
            addresses = []
        if not addresses:
            raise RequestRefused(502, f"the name {host} has no address", "Check the name.")
        return addresses

    def _begin(self, host: str, port: int) -> Awaitable[list[str]]:
        """Starts a lookup; it occupies its place until its thread has ended."""
        if not _ALL.acquire(blocking=False):
            self._places.release()
            raise RequestRefused(503, "too many names are being resolved", "Try again later.")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[str]] = loop.create_future()
        answer.add_done_callback(self._done)

        def work() -> None:
            try:
                found: list[str] | BaseException = self._lookup(host, port)
            except BaseException as error:
                found = error
            finally:
                _ALL.release()
            try:
                loop.call_soon_threadsafe(_settle, answer, found)
            except RuntimeError:
                pass  # the loop has closed

        try:
            threading.Thread(target=work, name="portico-resolver", daemon=True).start()
        except RuntimeError:  # no more threads
            _ALL.release()
            answer.set_exception(OSError("no thread"))
        return answer

    def _done(self, answer: asyncio.Future[list[str]]) -> None:
        self._places.release()
        answer.cancelled() or answer.exception()  # retrieved, also when the caller was cancelled


def _settle(answer: "asyncio.Future[list[str]]", found: list[str] | BaseException) -> None:
    if answer.cancelled():
        return
    if isinstance(found, BaseException):
        answer.set_exception(found)
    else:
        answer.set_result(found)
