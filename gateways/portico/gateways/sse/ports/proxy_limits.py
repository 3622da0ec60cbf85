"""The operator's settings of the proxy."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from portico.gateways.sse.ports.header_filter import PortHeaders


@dataclass(frozen=True, slots=True)
class PortLimits:
    """Timeouts in seconds, the size of a WebSocket message in bytes, header fields, and origins."""

    answer_seconds: float = 60.0
    idle_seconds: float = 300.0
    message_bytes: int = 4 << 20
    headers: PortHeaders = field(default_factory=PortHeaders)
    # Origins whose pages may read answers; pages of the sandbox itself always may.
    origins: Sequence[str] = ()
