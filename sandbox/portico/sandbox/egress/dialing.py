"""Connects to one of several addresses, all of which were checked before."""

import asyncio
import contextlib
from collections.abc import Sequence
from itertools import chain, zip_longest
from typing import Final

from portico.sandbox.egress.host_names import Address

_SECONDS: Final = 15.0  # for all addresses together
_HEAD_START: Final = 0.25  # seconds before the next address is tried in parallel, RFC 8305 section 8
_MOST: Final = 8  # addresses that are tried

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def dial(addresses: Sequence[Address], port: int) -> Streams | None:
    """Returns the first connection that succeeds, alternating address families (RFC 8305); None if all
    fail."""
    waiting = _by_turns(addresses)[:_MOST]
    trying: set[asyncio.Task[Streams]] = set()
    made: Streams | None = None
    try:
        async with asyncio.timeout(_SECONDS):
            while made is None and (waiting or trying):
                if waiting:
                    address = str(waiting.pop(0))  # numeric, so it is not resolved again
                    trying.add(asyncio.ensure_future(asyncio.open_connection(address, port)))
                done, trying = await asyncio.wait(
                    trying, timeout=_HEAD_START if waiting else None, return_when=asyncio.FIRST_COMPLETED
                )
                for attempt in done:
                    if attempt.exception() is None:
                        made = _first(made, attempt.result())
    except TimeoutError:
        pass
    finally:
        for attempt in trying:
            attempt.cancel()
        for attempt in trying:
            with contextlib.suppress(asyncio.CancelledError, OSError):
                (await attempt)[1].close()  # it succeeded in the meantime
    return made


def _first(made: Streams | None, other: Streams) -> Streams:
    if made is not None:
        other[1].close()
    return made or other


def _by_turns(addresses: Sequence[Address]) -> list[Address]:
    """Alternates the families, starting with the first address's, as the system's resolver sorted them."""
    first = [address for address in addresses if address.version == addresses[0].version]
    others = [address for address in addresses if address.version != addresses[0].version]
    return [one for one in chain.from_iterable(zip_longest(first, others)) if one is not None]
