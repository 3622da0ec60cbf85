"""Encoding of events: the data that events are made of, and the interface of the encoder.

An event is encoded once, when the agent yields it, as a frame with one event. Frames are joined by
concatenation (a protobuf rule for repeated fields), so the log, its readers and the transports handle bytes
only.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from portico.agent.child_runs import ChildRequest
from portico.core.budgets import BudgetUse
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
class PendingInput:
    """An open question of a paused run."""

    id: str
    prompt: str
    schema_json: str
    kind: str  # input | authorization


# Not frozen: an empty reply makes five instances, and frozen ones take four times as long.
@dataclass(slots=True, kw_only=True)
class RunSnapshot:
    """State of a run at one event. Filled in by its creator and not changed afterwards."""

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
    pending_input: PendingInput | None
    metadata_json: str
    input: Sequence[Message] = ()  # the answer or steering messages that the agent gets with this event
    status_at: float = 0.0
    cancel_metadata_json: str = ""
    repeated_answers: int = 0
    budget: Budget | None = None
    used: BudgetUse | None = None  # set if `budget` is
    parent_run_id: str = ""


@dataclass(frozen=True, slots=True)
class FinishedContent:
    """A content of a finished message, with the number of the event that finished it."""

    content: Content
    sequence_number: int | None


@dataclass(frozen=True, slots=True)
class FinishedMessage:
    """A finished message of a run's output."""

    message: Message
    contents: Sequence[FinishedContent]
    sequence_number: int | None


class DeltaEncoder(Protocol):
    """Encodes the deltas of one content. On the hot path."""

    def __call__(self, sequence_number: int, text: str) -> bytes: ...


class EventEncoder(Protocol):
    """Encodes events as frames of one event, and the payloads that the stores keep."""

    def response(
        self, sequence_number: int, snapshot: RunSnapshot, output: Sequence[FinishedMessage]
    ) -> bytes:
        """Encode a change of the run's status; `output` is set in the terminal event only."""
        ...

    def message_opened(
        self, sequence_number: int, message_id: str, type: MessageType, role: Role, metadata_json: str
    ) -> bytes:
        """Encode the start of a message."""
        ...

    def deltas(self, message_id: str, index: int, *, refusal: bool) -> DeltaEncoder:
        """Make the encoder of the deltas of a text content; `refusal` for the text of a refusal."""
        ...

    def content(
        self, sequence_number: int, message_id: str, index: int, content: Content, status: Status
    ) -> bytes:
        """Encode a content: its announcement (in progress) or the complete one."""
        ...

    def message(self, sequence_number: int, finished: FinishedMessage) -> bytes:
        """Encode a finished message."""
        ...

    def summary(self, snapshot: RunSnapshot) -> bytes:
        """The response without its output, for RunRecord.summary."""
        ...

    def check_message(self, message: Message, field: str) -> None:
        """Raise InvalidArgument if a caller may not add the message to a session."""
        ...

    def stored_message(self, message: Message) -> bytes:
        """Encode a message of a session."""
        ...

    def load_message(self, payload: bytes) -> Message:
        """Decode the result of `stored_message`."""
        ...

    def load_request(self, payload: bytes, owner: str) -> "RunRequest":
        """Decode RunRequest.payload."""
        ...

    def load_pending_input(self, summary: bytes) -> tuple[PendingInput | None, int]:
        """The open question in a summary, and the number of repeated answers."""
        ...

    def load_parent(self, summary: bytes) -> str:
        """The id of the parent run in a summary; empty for a root run."""
        ...

    def load_budget(self, summary: bytes) -> tuple[Budget, BudgetUse] | None:
        """The budget and its use in a summary; None without a budget."""
        ...

    def child_request(self, request: ChildRequest, parent_run_id: str, parent: "RunRequest") -> "RunRequest":
        """Make a request to start a child run. Raises InvalidArgument."""
        ...

    def answers(self, answers: Sequence[Sequence[Message]], steered: Sequence[Message] = ()) -> bytes:
        """Encode the answers and steering messages so far, for later attempts."""
        ...

    def load_answers(self, payload: bytes) -> Sequence[Sequence[Message]]:
        """Decode the answers; an empty one is an open question."""
        ...

    def load_steered(self, payload: bytes) -> Sequence[Message]:
        """Decode the steering messages."""
        ...

    def recover(self, chunks: Sequence[Chunk]) -> "Recovered":
        """Read the output of an interrupted run from its log."""
        ...


@dataclass(frozen=True, slots=True)
class Recovered:
    """Output read from an interrupted run's log: the finished messages and the open one."""

    finished: Sequence[FinishedMessage]
    remembered: int  # number of finished messages that the session has
    open_message: Message | None
    open_contents: Sequence[Content]
    usage: Usage | None


DIGEST_BYTES = 16


@dataclass(frozen=True, slots=True)
class RunRequest:
    """A validated request to start a run.

    `owner` is the user with its tenant, the key of the user in the stores. `payload` is the encoded request
    that the log keeps; it begins with a digest of the request as the caller sent it, by which repeats are
    recognised.
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
    budget: Budget | None = None  # as requested
    parent_run_id: str = ""

    @property
    def digest(self) -> bytes:
        """Identifies the request as the caller sent it."""
        return self.payload[:DIGEST_BYTES]

    def for_agent(self, agent_name: str) -> "RunRequest":
        """The request with its agent's name filled in, also for the default agent."""
        if self.request.agent_name == agent_name:
            return self
        return replace(self, request=replace(self.request, agent_name=agent_name))

    def __post_init__(self) -> None:
        assert self.busy_policy in ("reject", "enqueue", "interrupt", "parallel")
