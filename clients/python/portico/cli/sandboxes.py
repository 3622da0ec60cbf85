"""`portico sandbox list` and the like: the sandboxes of a running core."""

import asyncio
from collections.abc import Coroutine
from typing import Annotated, Any

import typer
from rich.table import Table

from portico.cli.connect import connect
from portico.cli.console import Console
from portico.client import PorticoError
from portico.v1 import sandbox_pb2

sandbox = typer.Typer(help="Run untrusted code, and look after sandboxes.", no_args_is_help=True)
console = Console()

Core = Annotated[str, typer.Option(help="The core's address.")]
SandboxId = Annotated[str, typer.Argument(help="The sandbox's id.")]


@sandbox.command("list")
def list_sandboxes(core: Core = "127.0.0.1:50051", user_id: str = "", session_id: str = "") -> None:
    """A core's sandboxes, newest first."""

    async def work() -> None:
        table = Table("sandbox", "user", "session", "type", "state", "used", box=None)
        async with connect(core) as client:
            async for one in client.sandboxes.list(user_id=user_id, session_id=session_id):
                state = sandbox_pb2.SandboxState.Name(one.state).removeprefix("SANDBOX_STATE_").lower()
                used = f"{one.used_time.ToDatetime():%Y-%m-%d %H:%M:%S}"
                table.add_row(one.sandbox_id, one.user_id, one.session_id, one.spec.type, state, used)
        console.print(table)

    _do(work())


@sandbox.command("delete")
def delete_sandbox(sandbox_id: SandboxId, core: Core = "127.0.0.1:50051") -> None:
    """End a sandbox and all in it."""

    async def work() -> None:
        async with connect(core) as client:
            await client.sandboxes.delete(sandbox_id)

    _do(work())


def _do(work: Coroutine[Any, Any, None]) -> None:
    try:
        asyncio.run(work)
    except PorticoError as error:
        console.print(str(error), style="red")
        raise typer.Exit(1) from None
