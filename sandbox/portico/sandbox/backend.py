"""The interface of sandbox backends. It does not assume that sandboxes run on this machine.

`SandboxHandle` and the objects that it owns are the one implementation of a sandbox handle. A backend
connects them to a supervisor, wherever it runs, and does what needs rights outside the sandbox: create,
pause, measure, destroy.
"""

from typing import Protocol

from portico.sandbox.events import Capabilities
from portico.sandbox.handle.sandbox_handle import SandboxHandle
from portico.sandbox.spec import Spec


class Backend(Protocol):
    """Creates sandboxes of one kind."""

    name: str

    @property
    def capabilities(self) -> Capabilities:
        """What the backend supports on this machine; known once it is open."""

    @property
    def templates(self) -> int:
        """Number of template processes that sandboxes are forked from; safe to read in any thread."""

    async def open(self) -> None:
        """Detects what the machine supports, and removes sandboxes of owners that have died. Raises
        BackendUnavailable."""

    async def create(self, spec: Spec, sandbox_id: str | None = None, *, user_id: str = "") -> SandboxHandle:
        """Creates a sandbox that is ready for its first call.

        Args:
            spec: Limits, network, mounts and environment.
            sandbox_id: Its id; None for a random one.
            user_id: The user who is charged for shared resources (such as templates), so that one user cannot
                use all of them.

        Raises:
            InvalidRequest, Unsupported, LimitExceeded, BackendUnavailable.
        """

    async def close(self) -> None:
        """Destroys every sandbox; returns when no process or file of them is left."""
