"""Child runs: the request that starts one, its handle and its result."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from portico.model.messages import Budget, Error, Message, MessageType, Status, Usage


@dataclass(frozen=True, slots=True)
class RunResult:
    """A run's final status and its complete output."""

    run_id: str
    status: Status
    output: Sequence[Message] = ()
    error: Error | None = None
    usage: Usage | None = None

    @property
    def text(self) -> str:
        """Text of its messages, without reasoning and tool calls."""
        return "".join(message.text for message in self.output if message.type is MessageType.MESSAGE)


@dataclass(frozen=True, slots=True)
class ChildRequest:
    """Input and options of a child run."""

    input: Sequence[Message]
    agent_name: str = ""
    session_id: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    budget: Budget | None = None


class ChildRun(Protocol):
    """Handle of a child run, which ends with its parent run at the latest."""

    @property
    def run_id(self) -> str: ...

    async def result(self) -> RunResult:
        """Waits until the run has ended, with whatever status, and returns its result."""
        ...

    async def cancel(self) -> None:
        """Cancels the run and waits until it has stopped; does nothing if the run has ended."""
        ...


class ChildStarter(Protocol):
    """Starts child runs of one run."""

    async def __call__(self, request: ChildRequest) -> ChildRun: ...
