"""What the parts of SandboxService share."""

from portico.core.convert.requests import check_id
from portico.core.engine.sandboxes import Sandboxes
from portico.core.errors import InvalidArgument
from portico.sandbox.box import Box
from portico.sandbox.manager import Held


class SandboxMethods:
    """Methods on the sandboxes of one core."""

    def __init__(self, sandboxes: Sandboxes) -> None:
        self._sandboxes = sandboxes

    def _held(self, sandbox_id: str) -> Held:
        """Raises InvalidArgument, SandboxNotFound, SandboxGone."""
        return self._sandboxes.get(check_id(sandbox_id, "sandbox_id"))

    def _box(self, sandbox_id: str) -> Box:
        """Raises as _held."""
        return self._held(sandbox_id).box


def check_port(port: int, field: str) -> int:
    """Raises InvalidArgument."""
    if not 0 < port < 65_536:
        raise InvalidArgument(field, "not between 1 and 65535")
    return port
