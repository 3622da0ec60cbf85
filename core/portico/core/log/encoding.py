"""How events become bytes, as the engine asks for it.

An event is encoded once, where the agent yields it, as a frame of one event.
Frames join by concatenation (a protobuf rule for repeated fields), so the log,
its readers and the transports handle bytes and nothing else.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from portico.agent.child_runs import ChildRequest
from portico.core.budgets import Use
from portico.core.stores.ports.stores import Chunk
from portico.model.messages import (
    AgentRequest,
    Budget,
    Content,
    Error,
    Message,
    MessageType,
    Role,
    Status,
    Usage,
)


@dataclass(frozen=True, slots=True)
class Ask:
    """An open question to a human."""

    id: str
    prompt: str
    schema_json: str
    kind: str  # input | authorization


@dataclass(
    slots=True
)  # not frozen: an empty reply makes five of them, and each would take four times as long
class Snapshot:
    """The run as a whole, at one event. Whoever makes one fills it in, and nobody changes it then."""

    run_id: str
    status: Status
    error: Error | None
    created_at: float
    completed_at: float | None
    usage: Usage | None
    session_id: str
    user_id: str
    agent_name: str
    attempt: int
    ask: Ask | None
    metadata_json: str
    input: Sequence[Message] = ()  # what the agent is told with this event
    status_at: float = 0.0
    cancel_metadata_json: str = ""
    repeated_answers: int = 0
    budget: Budget | None = None
    used: Use | None = None  # set with the budget
    parent_run_id: str = ""


@dataclass(frozen=True, slots=True)
class FinishedContent:
    """A content of a finished message, and the number of the event that finished it."""

    content: Content
    sequence_number: int | None


@dataclass(frozen=True, slots=True)
class FinishedMessage:
    """A message of a run's output."""

    message: Message
    contents: Sequence[FinishedContent]
    sequence_number: int | None


class DeltaEncoder(Protocol):
    """Encodes deltas of one content: the hot path."""

    def __call__(self, sequence_number: int, text: str) -> bytes: ...


class EventEncoder(Protocol):
    """Encodes events as frames of one event, and what the stores keep."""

    def response(
        self, sequence_number: int, snapshot: Snapshot, output: Sequence[FinishedMessage]
    ) -> bytes: ...

    def message_opened(
        self, sequence_number: int, message_id: str, type: MessageType, role: Role, metadata_json: str
    ) -> bytes: ...

    def deltas(self, message_id: str, index: int, *, refusal: bool) -> DeltaEncoder: ...

    def content(
        self, sequence_number: int, message_id: str, index: int, content: Content, status: Status
    ) -> bytes: ...

    def message(self, sequence_number: int, finished: FinishedMessage) -> bytes: ...

    def summary(self, snapshot: Snapshot) -> bytes:
        """The response without output, as RunRecord keeps it."""
        ...

    def check_message(self, message: Message, field: str) -> None:
        """Raises InvalidArgument for a message that no caller may add to a session."""
        ...

    def stored_message(self, message: Message) -> bytes:
        """A session's message."""
        ...

    def load_message(self, payload: bytes) -> Message:
        """The reverse of stored_message."""
        ...

    def load_request(self, payload: bytes, owner: str) -> "StartRequest":
        """The reverse of StartRequest.payload."""
        ...

    def load_ask(self, summary: bytes) -> tuple[Ask | None, int]:
        """The question that is open, as a run's summary has it, and how many answers were repeated."""
        ...

    def load_parent(self, summary: bytes) -> str:
        """The run that started this one; empty if none did."""
        ...

    def load_budget(self, summary: bytes) -> tuple[Budget, Use] | None:
        """What a run may use and has used, as its summary has it."""
        ...

    def child_request(
        self, request: ChildRequest, parent_run_id: str, parent: "StartRequest"
    ) -> "StartRequest":
        """A request to start a child run. Raises InvalidArgument."""
        ...

    def answers(self, answers: Sequence[Sequence[Message]], steered: Sequence[Message] = ()) -> bytes:
        """What people answered so far, for a run that is executed again."""
        ...

    def load_answers(self, payload: bytes) -> Sequence[Sequence[Message]]: ...

    def load_steered(self, payload: bytes) -> Sequence[Message]: ...

    def recover(self, chunks: Sequence[Chunk]) -> "Recovered":
        """What a cut-off run had produced."""
        ...


@dataclass(frozen=True, slots=True)
class Recovered:
    """A cut-off run's log, read again: finished messages, and the one that was open."""

    finished: Sequence[FinishedMessage]
    remembered: int  # how many of them the session has
    open_message: Message | None
    open_contents: Sequence[Content]
    usage: Usage | None


DIGEST_BYTES = 16


@dataclass(frozen=True, slots=True)
class StartRequest:
    """A validated request to start a run.

    `owner` is the user as the stores know it, with its tenant. `payload` is the
    same, encoded, as the log keeps it; it begins with a digest of the request
    as the caller sent it, which tells a repeat from another.
    """

    request: AgentRequest
    owner: str
    metadata_json: str
    payload: bytes
    background: bool
    idempotency_key: str
    busy_policy: str  # reject | enqueue | interrupt | parallel
    timeout: float | None
    ephemeral: str = ""  # as in RunRecord
    budget: Budget | None = None  # that was asked for
    parent_run_id: str = ""

    @property
    def digest(self) -> bytes:
        return self.payload[:DIGEST_BYTES]

    def to(self, agent_name: str) -> "StartRequest":
        """The request with the name of its agent, also when that is the default one."""
        if self.request.agent_name == agent_name:
            return self
        return replace(self, request=replace(self.request, agent_name=agent_name))

    def __post_init__(self) -> None:
        assert self.busy_policy in ("reject", "enqueue", "interrupt", "parallel")
