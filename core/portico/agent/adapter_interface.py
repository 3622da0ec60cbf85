"""Interfaces of an adapter for an agent framework: AdapterFactory and Translation.

An AdapterFactory is found by the framework's name, once per process; it opens a Translation
for every run. The translation provides the query function's arguments, and
converts each yielded item with `say`.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from portico.agent.context import Context, InputRequest
from portico.model.messages import Message


class Translation(Protocol):
    """Translates one run between the agent protocol and a framework. For use on the event loop only."""

    async def begin(self) -> Mapping[str, Any]:
        """Returns the query function's arguments by name; at least `msgs`, the run's input as the framework's
        messages."""
        ...

    def say(self, item: Any) -> Iterable[object]:
        """Converts an item of the framework's stream to items that a query function without a framework
        yields.

        Raises TypeError for an unknown type of item.
        """
        ...

    def rest(self) -> Iterable[object]:
        """Returns the items held back so far; called after the query function has returned or was stopped."""
        ...

    def question(self) -> InputRequest | None:
        """Returns the question that the framework waits for after the query function has returned; None if
        the run is complete."""
        ...

    def answered(self, answer: Sequence[Message]) -> Mapping[str, Any] | None:
        """Takes an answer. Returns the arguments for the next call of the query function; None if the
        framework has another question first."""
        ...

    async def end(self) -> None:
        """Saves the framework's state after the run has ended, with whatever status.

        Not called if the core stops during the run or crashes: another attempt starts with the state from
        before the run.
        """
        ...


class AdapterFactory(Protocol):
    """An adapter for a framework. Its constructor imports the framework, which may not be installed."""

    @property
    def parameters(self) -> Sequence[str]:
        """Parameters that a query function may have, besides self, request and context."""
        ...

    def open(self, context: Context) -> Translation:
        """Makes the translation of one run."""
        ...


class OneWayTranslation:
    """Base of translations that hold back no items, ask no questions and save no state."""

    def rest(self) -> Iterable[object]:
        return ()

    def question(self) -> InputRequest | None:
        return None

    def answered(self, answer: Sequence[Message]) -> Mapping[str, Any] | None:
        raise AssertionError("there is no open question")

    async def end(self) -> None:
        return None
