"""Runs that a run starts: what an agent's author has of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from portico.agent.protocol import Budget, Error, Message, MessageType, Status, Usage


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a run ended, and all that it said."""

    run_id: str
    status: Status
    output: Sequence[Message] = ()
    error: Error | None = None
    usage: Usage | None = None

    @property
    def text(self) -> str:
        """The text of its messages, without reasoning and tools."""
        return "".join(message.text for message in self.output if message.type is MessageType.MESSAGE)


@dataclass(frozen=True, slots=True)
class ChildRequest:
    """What a child run is asked."""

    input: Sequence[Message]
    agent_name: str = ""
    session_id: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    budget: Budget | None = None


class ChildRun(Protocol):
    """A run that this one started. It ends with this one at the latest."""

    @property
    def run_id(self) -> str: ...

    async def result(self) -> RunResult:
        """Return once it has ended, in whatever way."""
        ...

    async def cancel(self) -> None:
        """Return once it has stopped; nothing if it has ended."""
        ...


class ChildStarter(Protocol):
    """Starts child runs of one run."""

    async def __call__(self, request: ChildRequest) -> ChildRun: ...
