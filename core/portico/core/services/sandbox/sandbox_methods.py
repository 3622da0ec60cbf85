"""Base class of the parts of SandboxService."""

from portico.core.convert.requests import check_id
from portico.core.errors import InvalidArgument
from portico.core.sandboxes.core_sandboxes import CoreSandboxes
from portico.core.services.rpc.current_principal import is_visible
from portico.sandbox.handle.sandbox_handle import SandboxHandle
from portico.sandbox.manager.registry import ManagedSandbox


class SandboxMethods:
    """Looks up sandboxes and snapshots of the caller."""

    def __init__(self, sandboxes: CoreSandboxes) -> None:
        self._sandboxes = sandboxes

    def _held(self, sandbox_id: str) -> ManagedSandbox:
        """A sandbox of the caller. Raises InvalidArgument, SandboxNotFound, SandboxGone."""
        return self._sandboxes.get(check_id(sandbox_id, "sandbox_id"), is_visible)

    def _box(self, sandbox_id: str) -> SandboxHandle:
        """Raises as _held."""
        return self._held(sandbox_id).handle

    def _snapshot(self, snapshot_id: str) -> str:
        """Checks that the caller owns the snapshot; returns its id. Raises InvalidArgument,
        SnapshotNotFound."""
        self._sandboxes.snapshot(check_id(snapshot_id, "snapshot_id"), is_visible)
        return snapshot_id


def check_port(port: int, field: str) -> int:
    """Raises InvalidArgument."""
    if not 0 < port < 65_536:
        raise InvalidArgument(field, "must be between 1 and 65535")
    return port
