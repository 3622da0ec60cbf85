"""Metric with the expiry times of the certificates in use."""

from pathlib import Path

from portico.process import certificates
from portico.telemetry.metrics import counters


class Expiries:
    """Expiry times of one process's certificates."""

    def __init__(self) -> None:
        self._known: dict[str, float] = {}
        counters.gauge(
            "portico.tls.certificate.expiry",
            "s",
            "When the first certificate of a chain in use expires, in seconds since the epoch.",
            lambda: [(expiry, {"certificate": name}) for name, expiry in tuple(self._known.items())],
        )

    def note(self, name: str, file: Path) -> None:
        """Records that the chain in the file is in use under this name. Blocks. Raises ValueError."""
        self._known[name] = certificates.expiry(file)
