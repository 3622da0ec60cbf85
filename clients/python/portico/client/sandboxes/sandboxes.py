"""SandboxService: sandboxes for untrusted code."""

from portico.client.convert import to_duration
from portico.client.paging import Listing, listing
from portico.client.sandboxes.cells import Cells
from portico.client.sandboxes.code import SandboxCode
from portico.client.sandboxes.files import SandboxFiles
from portico.client.sandboxes.streams import PortConnection, Terminal
from portico.v1 import sandbox_pb2

SIZE = (24, 80)


class Sandboxes(SandboxCode, SandboxFiles):
    """Manages sandboxes. Every method raises PorticoError; a failure of code inside a sandbox is a result.

    The methods raise NotFound for an unknown sandbox, FailedPrecondition for one that has ended or is
    paused, and ResourceExhausted beyond a limit.
    """

    async def create(
        self,
        spec: sandbox_pb2.SandboxSpec | None = None,
        *,
        session_id: str | None = None,
        user_id: str | None = None,
        fresh: bool = False,
        idempotency_key: str = "",
    ) -> sandbox_pb2.Sandbox:
        """Returns the session's sandbox of the spec's type, created if necessary; with `fresh` always a new
        one.
        """
        request = sandbox_pb2.CreateSandboxRequest(
            session_id=session_id or "",
            user_id=user_id or "",
            spec=spec,
            fresh=fresh,
            idempotency_key=idempotency_key,
        )
        return (await self._calls.unary(self._calls.connection.sandboxes.CreateSandbox, request)).sandbox

    def cells(
        self,
        sandbox_id: str | None = None,
        *,
        spec: sandbox_pb2.SandboxSpec | None = None,
        session_id: str | None = None,
        user_id: str | None = None,
        fresh: bool = False,
    ) -> Cells:
        """Executes cells over one stream; without an id in a sandbox that is created as by create."""
        if sandbox_id:
            return Cells(self._calls, sandbox_pb2.RunCellsRequest(sandbox_id=sandbox_id or ""))
        create = sandbox_pb2.CreateSandboxRequest(
            session_id=session_id or "", user_id=user_id or "", spec=spec, fresh=fresh
        )
        return Cells(self._calls, sandbox_pb2.RunCellsRequest(create=create))

    async def get(self, sandbox_id: str) -> sandbox_pb2.Sandbox:
        """Returns the current state of a sandbox."""
        request = sandbox_pb2.GetSandboxRequest(sandbox_id=sandbox_id)
        return (await self._calls.unary(self._calls.connection.sandboxes.GetSandbox, request)).sandbox

    def list(
        self,
        *,
        user_id: str | None = None,
        session_id: str | None = None,
        page_size: int = 0,
        page_token: str = "",
    ) -> Listing[sandbox_pb2.ListSandboxesResponse, sandbox_pb2.Sandbox]:
        """Lists sandboxes, newest first."""
        request = sandbox_pb2.ListSandboxesRequest(
            user_id=user_id or "", session_id=session_id or "", page_size=page_size, page_token=page_token
        )
        return listing(
            self._calls,
            lambda: self._calls.connection.sandboxes.ListSandboxes,
            request,
            lambda page: page.sandboxes,
        )

    async def touch(self, sandbox_id: str) -> sandbox_pb2.Sandbox:
        """Restarts the idle time of a sandbox."""
        request = sandbox_pb2.TouchSandboxRequest(sandbox_id=sandbox_id)
        return (await self._calls.unary(self._calls.connection.sandboxes.TouchSandbox, request)).sandbox

    async def delete(self, sandbox_id: str) -> None:
        """Ends everything inside a sandbox and removes it."""
        request = sandbox_pb2.DeleteSandboxRequest(sandbox_id=sandbox_id)
        await self._calls.unary(self._calls.connection.sandboxes.DeleteSandbox, request)

    async def pause(self, sandbox_id: str) -> None:
        """Freezes everything inside a sandbox."""
        request = sandbox_pb2.PauseSandboxRequest(sandbox_id=sandbox_id)
        await self._calls.unary(self._calls.connection.sandboxes.PauseSandbox, request)

    async def resume(self, sandbox_id: str) -> None:
        """Continues a paused sandbox."""
        request = sandbox_pb2.ResumeSandboxRequest(sandbox_id=sandbox_id)
        await self._calls.unary(self._calls.connection.sandboxes.ResumeSandbox, request)

    async def metrics(self, sandbox_id: str) -> sandbox_pb2.GetSandboxMetricsResponse:
        """Returns the resource usage of a sandbox."""
        request = sandbox_pb2.GetSandboxMetricsRequest(sandbox_id=sandbox_id)
        return await self._calls.unary(self._calls.connection.sandboxes.GetSandboxMetrics, request)

    async def create_checkpoint(self, sandbox_id: str, name: str) -> None:
        """Stores the current Python kernel as a checkpoint."""
        request = sandbox_pb2.CreateCheckpointRequest(sandbox_id=sandbox_id, name=name)
        await self._calls.unary(self._calls.connection.sandboxes.CreateCheckpoint, request)

    async def roll_back(
        self, sandbox_id: str, *, checkpoint: str = "", snapshot_id: str | None = None
    ) -> bool:
        """Restores a checkpoint or a snapshot; returns whether the kernel has its names of that time."""
        request = sandbox_pb2.RollBackRequest(sandbox_id=sandbox_id)
        if snapshot_id:
            request.snapshot_id = snapshot_id
        else:
            request.name = checkpoint
        return (await self._calls.unary(self._calls.connection.sandboxes.RollBack, request)).kernel_restored

    async def create_snapshot(self, sandbox_id: str) -> sandbox_pb2.CreateSnapshotResponse:
        """Stores a snapshot of a sandbox."""
        request = sandbox_pb2.CreateSnapshotRequest(sandbox_id=sandbox_id)
        return await self._calls.unary(self._calls.connection.sandboxes.CreateSnapshot, request)

    def list_snapshots(
        self,
        *,
        user_id: str | None = None,
        session_id: str | None = None,
        sandbox_id: str | None = None,
        page_size: int = 0,
        page_token: str = "",
    ) -> Listing[sandbox_pb2.ListSnapshotsResponse, sandbox_pb2.SandboxSnapshot]:
        """Lists snapshots, newest first."""
        request = sandbox_pb2.ListSnapshotsRequest(
            user_id=user_id or "",
            session_id=session_id or "",
            sandbox_id=sandbox_id or "",
            page_size=page_size,
            page_token=page_token,
        )
        return listing(
            self._calls,
            lambda: self._calls.connection.sandboxes.ListSnapshots,
            request,
            lambda page: page.snapshots,
        )

    async def delete_snapshot(self, snapshot_id: str) -> None:
        """Removes a snapshot."""
        request = sandbox_pb2.DeleteSnapshotRequest(snapshot_id=snapshot_id)
        await self._calls.unary(self._calls.connection.sandboxes.DeleteSnapshot, request)

    async def fork(
        self,
        *,
        sandbox_id: str | None = None,
        snapshot_id: str | None = None,
        session_id: str | None = None,
        spec: sandbox_pb2.SandboxSpec | None = None,
    ) -> sandbox_pb2.Sandbox:
        """Creates a sandbox with the files of another one, or of a snapshot."""
        request = sandbox_pb2.ForkSandboxRequest(session_id=session_id or "", spec=spec)
        if snapshot_id:
            request.snapshot_id = snapshot_id
        else:
            request.sandbox_id = sandbox_id or ""
        return (await self._calls.unary(self._calls.connection.sandboxes.ForkSandbox, request)).sandbox

    async def create_port_access(
        self, sandbox_id: str, port: int, *, lifetime: float | None = None
    ) -> sandbox_pb2.CreatePortAccessResponse:
        """Creates a token that gives any holder access to one port, for a lifetime of an hour by default."""
        request = sandbox_pb2.CreatePortAccessRequest(
            sandbox_id=sandbox_id, port=port, lifetime=None if lifetime is None else to_duration(lifetime)
        )
        return await self._calls.unary(self._calls.connection.sandboxes.CreatePortAccess, request)

    async def open_terminal(
        self,
        sandbox_id: str,
        command: sandbox_pb2.Command | None = None,
        *,
        rows: int = SIZE[0],
        columns: int = SIZE[1],
    ) -> Terminal:
        """Starts a command, or a shell, in a new terminal that lasts until it is closed."""
        size = sandbox_pb2.TerminalSize(rows=rows, columns=columns)
        start = sandbox_pb2.TerminalStart(sandbox_id=sandbox_id, command=command, size=size)
        return await Terminal.open(self._calls, start)

    async def connect_port(
        self, sandbox_id: str | None = None, port: int = 0, *, access_token: str = ""
    ) -> PortConnection:
        """Connects to a TCP port on which a process inside listens. Raises Unavailable."""
        start = sandbox_pb2.PortStart(sandbox_id=sandbox_id or "", port=port, access_token=access_token)
        return await PortConnection.open(self._calls, start)
