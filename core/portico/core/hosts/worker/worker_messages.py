"""What a core and a worker say to each other beside values: plain data."""

from collections.abc import Mapping
from dataclasses import dataclass

from portico.model.messages import AgentRequest


@dataclass(frozen=True, slots=True)
class Order:
    """A run to execute; `trace` are the W3C's headers of its span."""

    run_id: str
    request: AgentRequest
    attempt: int
    trace: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Address:
    """One of a run's interfaces in the core, such as ("state", "part") or ("sandbox", "base")."""

    run_id: str
    path: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Offered:
    """Pieces that the caller has ready for whoever asks for them, by this number."""

    number: int
