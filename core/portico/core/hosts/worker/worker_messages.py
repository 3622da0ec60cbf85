"""Messages between a core and a worker: plain data."""

from collections.abc import Mapping
from dataclasses import dataclass

from portico.model.messages import AgentRequest


@dataclass(frozen=True, slots=True)
class ExecuteRun:
    """A run to execute; `trace` has the headers of its span (W3C Trace Context)."""

    run_id: str
    request: AgentRequest
    attempt: int
    trace: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class RemoteAddress:
    """An interface of a run in the core, such as ("state", "part") or ("sandbox", "base")."""

    run_id: str
    path: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OfferedRun:
    """Names an iterable of the sender, from which the receiver may pull items by this number."""

    number: int
