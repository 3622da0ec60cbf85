"""Audit lines of unauthenticated calls (such as guesses of keys), limited so that they can't fill a disk.

For each address and outcome, the first call in a minute has its own line; one line counts the rest.
"""

import ipaddress
import threading
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime

import orjson

SECONDS = 60.0
MAX_GROUPS = 100  # most pairs of address and outcome in that time; further ones are counted together
OTHERS = "others"


class UnauthenticatedCallLog:
    """Writes and counts lines of unauthenticated calls. Thread-safe."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self._write = write
        self._lock = threading.Lock()
        self._seen: dict[
            tuple[str, str], Counter[str]
        ] = {}  # calls without their own line, counted by method
        self._since = datetime.now(UTC)
        self._timer: threading.Timer | None = None

    def note(self, told: dict[str, object]) -> None:
        """Writes or counts a call; `told` is its line."""
        kind = _network(str(told["address"])), str(told["outcome"])
        with self._lock:
            if not self._seen:
                self._begin()
            if kind not in self._seen and len(self._seen) >= MAX_GROUPS:
                kind = OTHERS, kind[1]
            repeated = self._seen.get(kind)
            if repeated is None:
                self._seen[kind] = Counter()
                self._write(orjson.dumps(told))
            else:
                repeated[str(told["method"])] += 1

    def end(self) -> None:
        """Writes the counts so far and stops."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
            seen, self._seen = self._seen, {}
            for (address, outcome), repeated in seen.items():
                if repeated:
                    self._write(orjson.dumps(self._line(address, outcome, repeated)))

    def _begin(self) -> None:
        self._since = datetime.now(UTC)
        self._timer = threading.Timer(SECONDS, self.end)
        self._timer.daemon = True
        self._timer.start()

    def _line(self, address: str, outcome: str, repeated: Counter[str]) -> dict[str, object]:
        return {
            "time": datetime.now(UTC),
            "since": self._since,
            "action": "repeat",
            "outcome": outcome,
            "caller": None,
            "address": address,
            "count": repeated.total(),
            "methods": dict(repeated),
        }


def _network(address: str) -> str:
    """The address, for IPv6 its /64 network: one host can use any number of addresses in it."""
    if ":" not in address:
        return address
    return str(ipaddress.ip_network((address, 64), strict=False))
