"""When the certificates in use expire, in numbers."""

from pathlib import Path

from portico.process import certificates
from portico.telemetry.metrics import counters


class Expiries:
    """Of one process."""

    def __init__(self) -> None:
        self._known: dict[str, float] = {}
        counters.gauge(
            "portico.tls.certificate.expiry",
            "s",
            "When the first certificate of a chain that is in use expires, in seconds since 1970.",
            lambda: [(expiry, {"certificate": name}) for name, expiry in tuple(self._known.items())],
        )

    def note(self, name: str, file: Path) -> None:
        """The chain in the file is in use for what it is named for. Blocks. Raises ValueError."""
        self._known[name] = certificates.expiry(file)
