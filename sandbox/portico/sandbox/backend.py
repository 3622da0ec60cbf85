"""What the core asks of a place where sandboxes live. Nothing in it assumes that they share this machine.

`Box` and the objects it leads to are the one implementation of a live sandbox; a backend gives them a
stream to an agent, wherever it runs, and does what only the outside can do: create, pause, measure,
destroy.
"""

from typing import Protocol

from portico.sandbox.box import Box
from portico.sandbox.events import Capabilities
from portico.sandbox.spec import Spec


class Backend(Protocol):
    name: str

    @property
    def capabilities(self) -> Capabilities:
        """What it can do here; known once it is open."""

    @property
    def templates(self) -> int:
        """How many templates there are that sandboxes are forked from; may be asked in any thread."""

    async def open(self) -> None:
        """Finds out what is possible and ends what a dead owner has left. Raises BackendUnavailable."""

    async def create(self, spec: Spec, sandbox_id: str | None = None, *, user_id: str = "") -> Box:
        """A sandbox ready for its first call. Where sandboxes share what they are made from, no user gets all
        of it. Raises InvalidRequest, Unsupported, LimitExceeded, BackendUnavailable."""

    async def close(self) -> None:
        """Ends every sandbox; when it returns nothing of them is left."""
