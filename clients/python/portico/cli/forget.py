"""`portico forget`: permanently removes a user from a running core."""

import asyncio
from typing import Annotated

import typer
from rich.table import Table

from portico.cli.connect import connect
from portico.cli.console import Console
from portico.client import PorticoError
from portico.v1 import identity_pb2

console = Console()
problems = Console(stderr=True)


def forget(
    user_id: Annotated[
        str,
        typer.Argument(metavar="USER", help="The user; an admin names a tenant's user as tenant:acme:ada."),
    ],
    core: Annotated[str, typer.Option(help="The core's address.")] = "127.0.0.1:50051",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Remove all data of a user: runs, sessions, states, memories, sandboxes, keys."""
    if not yes:
        typer.confirm(f"Remove all data that {core} keeps of {user_id!r}, for good?", abort=True)
    try:
        told = asyncio.run(_forget(core, user_id))
    except PorticoError as error:
        problems.print(str(error), style="red")
        raise typer.Exit(1) from None
    table = Table("removed", "", box=None)
    for field in told.DESCRIPTOR.fields:
        table.add_row(field.name.replace("_", " "), str(getattr(told, field.name)))
    console.print(table)


async def _forget(core: str, user_id: str) -> identity_pb2.ForgetUserResponse:
    async with connect(core) as client:
        return await client.identity.forget_user(user_id)
