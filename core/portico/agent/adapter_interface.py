"""What an adapter of an agent framework is.

A Framework is found by its name, once per process; it opens a Translation for
every run. The query function then gets what the translation offers, and what
it yields goes through `say` on its way into the run.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from portico.agent.context import Context, InputRequest
from portico.model.messages import Message


class Translation(Protocol):
    """One run, between the agent protocol and a framework. It belongs to the event loop."""

    async def begin(self) -> Mapping[str, Any]:
        """What the query function may name, `msgs` at least: the run's input in the framework's own type."""
        ...

    def say(self, item: Any) -> Iterable[object]:
        """What the framework streamed, as what a query function without a framework would yield.

        Raises TypeError for what it does not know.
        """
        ...

    def rest(self) -> Iterable[object]:
        """What was held back, once the query function has returned or was stopped."""
        ...

    def question(self) -> InputRequest | None:
        """What the framework waits for when the query function has returned; None if it is done."""
        ...

    def answered(self, answer: Sequence[Message]) -> Mapping[str, Any] | None:
        """What the query function is called with again; None if there is another question first."""
        ...

    async def end(self) -> None:
        """The run is over, however it ended. What the framework is to remember is kept now.

        Not called where the core stops under the run, as it would not be in a crash: another attempt begins
        with what the framework remembered before the run.
        """
        ...


class Framework(Protocol):
    """An adapter. Making one imports its framework, which may not be installed."""

    @property
    def parameters(self) -> Sequence[str]:
        """What a query function may name beside self, request and context."""
        ...

    def open(self, context: Context) -> Translation: ...


class OneWay:
    """What most translations have in common: nothing is held back, asked or remembered."""

    def rest(self) -> Iterable[object]:
        return ()

    def question(self) -> InputRequest | None:
        return None

    def answered(self, answer: Sequence[Message]) -> Mapping[str, Any] | None:
        raise AssertionError("nothing was asked")

    async def end(self) -> None:
        return None
