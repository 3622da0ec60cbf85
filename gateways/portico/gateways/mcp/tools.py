"""The tools of the MCP gateway. A call without a sandbox id uses the caller's own sandbox."""

import hashlib
from collections.abc import Callable
from contextlib import aclosing
from typing import Annotated, Any

from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import CallToolResult, ToolAnnotations
from pydantic import Field

from portico.client import Client, FailedPrecondition, PorticoError
from portico.client.convert import to_duration
from portico.gateways.http.core_connection import CoreConnection, caller_metadata
from portico.gateways.mcp import tool_results
from portico.gateways.mcp.settings import McpSettings
from portico.v1 import sandbox_pb2 as pb

USER = "mcp"  # user of callers without a credential
ENTRIES = 1000

SandboxId = Annotated[str, Field(description="An id from sandbox_create; your own sandbox if omitted.")]
Timeout = Annotated[float | None, Field(description="The most seconds for the call.", gt=0, le=86_400)]
Path = Annotated[str, Field(description="A path relative to /workspace, or an absolute one.")]

_SNAPSHOTS = 200  # the most snapshots in a list

_READS = ToolAnnotations(read_only_hint=True, open_world_hint=False)
_RUNS = ToolAnnotations(read_only_hint=False, destructive_hint=True, open_world_hint=False)
_ADDS = ToolAnnotations(read_only_hint=False, destructive_hint=False, open_world_hint=False)
_ENDS = ToolAnnotations(
    read_only_hint=False, destructive_hint=True, idempotent_hint=True, open_world_hint=False
)


class Tools:
    """The tools of one gateway process."""

    def __init__(self, core: Callable[[], CoreConnection], settings: McpSettings) -> None:
        self._core = core
        self._settings = settings

    def register(self, server: MCPServer) -> None:
        """Adds the tools to the server."""
        for method, annotations in (
            (self.sandbox_create, _ADDS),
            (self.sandbox_run_code, _RUNS),
            (self.sandbox_exec, _RUNS),
            (self.sandbox_read_file, _READS),
            (self.sandbox_write_file, _RUNS),
            (self.sandbox_list_files, _READS),
            (self.sandbox_snapshot, _ADDS),
            (self.sandbox_list_snapshots, _READS),
            (self.sandbox_delete_snapshot, _ENDS),
            (self.sandbox_fork, _ADDS),
            (self.sandbox_kill, _ENDS),
        ):
            server.tool(annotations=annotations)(method)

    async def sandbox_create(
        self,
        ctx: Context,
        ttl_seconds: Annotated[
            float | None, Field(description="Seconds until the sandbox is deleted.", gt=0, le=1e9)
        ] = None,
        allow_hosts: Annotated[
            list[str], Field(description="Hosts it may connect to, such as pypi.org.")
        ] = [],  # noqa: B006
        idempotency_key: Annotated[
            str, Field(description="Calls with the same key return the same sandbox.")
        ] = "",
    ) -> tool_results.CreatedSandbox:
        """Create an isolated sandbox with Python, a shell and files."""
        client, user, _ = await self._caller(ctx)
        spec = pb.SandboxSpec(
            type="filesystem",
            allow_hosts=allow_hosts,
            ttl=None if ttl_seconds is None else to_duration(ttl_seconds),
        )
        try:
            made = await client.sandboxes.create(
                spec, user_id=user, fresh=True, idempotency_key=idempotency_key
            )
        except PorticoError as error:
            raise _tool_error(error) from None
        return tool_results.CreatedSandbox(sandbox_id=made.sandbox_id, type=made.spec.type, tier=made.tier)

    async def sandbox_run_code(
        self,
        code: Annotated[str, Field(description="Python code; variables persist between calls.")],
        ctx: Context,
        sandbox_id: SandboxId = "",
        timeout_seconds: Timeout = None,
    ) -> CallToolResult:
        """Run Python as in a notebook; also returns the last expression's value and figures."""
        client, sandbox_id = await self._sandbox(ctx, sandbox_id)
        return await self._gather(
            client.sandboxes.run_cell(sandbox_id, code, timeout=timeout_seconds), sandbox_id
        )

    async def sandbox_exec(
        self,
        command: Annotated[str, Field(description="A bash command.")],
        ctx: Context,
        sandbox_id: SandboxId = "",
        cwd: str = "",
        env: dict[str, str] = {},  # noqa: B006
        stdin: str = "",
        timeout_seconds: Timeout = None,
    ) -> CallToolResult:
        """Run a shell command to its end."""
        client, sandbox_id = await self._sandbox(ctx, sandbox_id)
        events = client.sandboxes.run_command(
            sandbox_id, command, cwd=cwd, env=env, stdin=stdin.encode(), timeout=timeout_seconds
        )
        return await self._gather(events, sandbox_id)

    async def sandbox_read_file(
        self,
        path: Path,
        ctx: Context,
        sandbox_id: SandboxId = "",
        offset: Annotated[int, Field(description="The byte to start at.", ge=0)] = 0,
    ) -> tool_results.FileText:
        """Read a text file."""
        client, sandbox_id = await self._sandbox(ctx, sandbox_id)
        limit = self._settings.file_bytes
        data = bytearray()
        try:
            pieces = client.sandboxes.read_file(sandbox_id, path, offset=offset, length=limit + 1)
            async with aclosing(pieces):
                async for piece in pieces:
                    data += piece
        except PorticoError as error:
            raise _tool_error(error) from None
        text = bytes(data[:limit]).decode(errors="replace")
        return tool_results.FileText(path=path, text=text, truncated=len(data) > limit)

    async def sandbox_write_file(
        self, path: Path, text: str, ctx: Context, sandbox_id: SandboxId = ""
    ) -> tool_results.Written:
        """Write a text file, replacing any existing content."""
        client, sandbox_id = await self._sandbox(ctx, sandbox_id)
        try:
            size = await client.sandboxes.write_file(sandbox_id, path, text)
        except PorticoError as error:
            raise _tool_error(error) from None
        return tool_results.Written(path=path, size_bytes=size)

    async def sandbox_list_files(
        self,
        ctx: Context,
        path: Path = ".",
        sandbox_id: SandboxId = "",
        depth: Annotated[int, Field(ge=1, le=64)] = 1,
        page_token: Annotated[str, Field(description="next_page_token of the previous page.")] = "",
    ) -> tool_results.Files:
        """List a directory, 1,000 entries per page."""
        client, sandbox_id = await self._sandbox(ctx, sandbox_id)
        try:
            listing = client.sandboxes.list_entries(
                sandbox_id, path, depth=depth, page_size=ENTRIES, page_token=page_token
            )
            page = await listing.page()
        except PorticoError as error:
            raise _tool_error(error) from None
        files = [
            tool_results.FileEntry(path=one.path, type=one.type, size_bytes=one.size_bytes)
            for one in page.files
        ]
        return tool_results.Files(
            files=files, truncated=bool(page.next_page_token), next_page_token=page.next_page_token
        )

    async def sandbox_snapshot(self, ctx: Context, sandbox_id: SandboxId = "") -> tool_results.Snapshot:
        """Save the current files of a sandbox."""
        client, sandbox_id = await self._sandbox(ctx, sandbox_id)
        try:
            taken = await client.sandboxes.create_snapshot(sandbox_id)
        except PorticoError as error:
            raise _tool_error(error) from None
        return tool_results.Snapshot(snapshot_id=taken.snapshot_id, size_bytes=taken.size_bytes)

    async def sandbox_list_snapshots(self, ctx: Context) -> tool_results.Snapshots:
        """List saved snapshots, newest first. They count against limits until deleted."""
        client, user, _ = await self._caller(ctx)
        try:
            page = await client.sandboxes.list_snapshots(user_id=user, page_size=_SNAPSHOTS).page()
        except PorticoError as error:
            raise _tool_error(error) from None
        kept = [
            tool_results.Snapshot(snapshot_id=one.snapshot_id, size_bytes=one.size_bytes)
            for one in page.snapshots
        ]
        return tool_results.Snapshots(snapshots=kept, truncated=bool(page.next_page_token))

    async def sandbox_delete_snapshot(
        self,
        snapshot_id: Annotated[str, Field(description="An id from sandbox_snapshot.")],
        ctx: Context,
    ) -> tool_results.Deleted:
        """Delete a snapshot."""
        client, user, _ = await self._caller(ctx)
        try:
            own = client.sandboxes.list_snapshots(user_id=user)
            if snapshot_id not in [one.snapshot_id async for one in own]:
                raise ToolError(f"SNAPSHOT_NOT_FOUND: no snapshot {snapshot_id!r}")
            await client.sandboxes.delete_snapshot(snapshot_id)
        except PorticoError as error:
            raise _tool_error(error) from None
        return tool_results.Deleted(snapshot_id=snapshot_id, deleted=True)

    async def sandbox_fork(
        self,
        source: Annotated[str, Field(description="The id of a sandbox or a snapshot.")],
        ctx: Context,
    ) -> tool_results.CreatedSandbox:
        """Create a sandbox with the files of another sandbox or of a snapshot."""
        client, user, _ = await self._caller(ctx)
        try:
            if source.startswith("snap_"):
                made = await client.sandboxes.fork(snapshot_id=source)
                if made.user_id != user:
                    await client.sandboxes.delete(made.sandbox_id)
                    raise ToolError(f"SNAPSHOT_NOT_FOUND: no snapshot {source!r}")
            else:
                await self._sandbox(ctx, source)
                made = await client.sandboxes.fork(sandbox_id=source)
        except PorticoError as error:
            raise _tool_error(error) from None
        return tool_results.CreatedSandbox(sandbox_id=made.sandbox_id, type=made.spec.type, tier=made.tier)

    async def sandbox_kill(self, ctx: Context, sandbox_id: SandboxId = "") -> tool_results.Ended:
        """End a sandbox and delete everything in it."""
        try:
            client, sandbox_id = await self._sandbox(ctx, sandbox_id)
            await client.sandboxes.delete(sandbox_id)
        except ToolError as error:
            if not str(error).startswith("SANDBOX_GONE"):
                raise
        except FailedPrecondition:
            pass  # already ended
        except PorticoError as error:
            raise _tool_error(error) from None
        return tool_results.Ended(sandbox_id=sandbox_id, ended=True)

    async def _caller(self, ctx: Context) -> tuple[Client, str, str]:
        """Returns a client with the caller's credential, the caller's user, and the session of its own
        sandbox.

        Raises ToolError.
        """
        headers = {name.lower(): value for name, value in (ctx.headers or {}).items()}
        metadata = caller_metadata((name.encode(), value.encode()) for name, value in headers.items())
        client = self._core().client
        if metadata:
            client = client.with_options(metadata=metadata)
        credential = headers.get("authorization", "")
        if not credential:
            return client, USER, USER
        try:
            who = await client.identity.caller()
        except PorticoError as error:
            raise _tool_error(error) from None
        if who is not None:
            return client, who.user_id, USER
        digest = hashlib.blake2b(credential.encode(), digest_size=16).hexdigest()
        return client, f"{USER}_{digest}", f"{USER}_{digest}"

    async def _sandbox(self, ctx: Context, sandbox_id: str) -> tuple[Client, str]:
        """Returns a client and the id of the named sandbox, if it is the caller's, or of the caller's
        own one.
        """
        client, user, session = await self._caller(ctx)
        try:
            if sandbox_id:
                found = await client.sandboxes.get(sandbox_id)
                if found.user_id != user:
                    raise ToolError(f"SANDBOX_NOT_FOUND: no sandbox {sandbox_id!r}")
            else:
                spec = pb.SandboxSpec(type="filesystem")
                found = await client.sandboxes.create(spec, user_id=user, session_id=session)
        except PorticoError as error:
            raise _tool_error(error) from None
        return client, found.sandbox_id

    async def _gather(self, events: Any, sandbox_id: str) -> CallToolResult:
        outcome = tool_results.Outcome(self._settings.output_characters)
        try:
            async with aclosing(events):
                async for event in events:
                    outcome.take(event)
        except PorticoError as error:
            raise _tool_error(error) from None
        return outcome.result(sandbox_id)


def _tool_error(error: PorticoError) -> ToolError:
    return ToolError(f"{error.reason or error.code.name}: {error.message}")
