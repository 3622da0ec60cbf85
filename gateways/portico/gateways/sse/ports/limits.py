"""What an operator sets about ports."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from portico.gateways.sse.ports.headers import PortHeaders


@dataclass(frozen=True, slots=True)
class PortLimits:
    """Patience in seconds, the size of a WebSocket's messages, and what passes."""

    answer_seconds: float = 60.0
    idle_seconds: float = 300.0
    message_bytes: int = 4 << 20
    headers: PortHeaders = field(default_factory=PortHeaders)
    # Whose pages may read answers, beside those of the sandbox itself.
    origins: Sequence[str] = ()
