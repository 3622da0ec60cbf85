"""`portico keys`: manages the API keys of a running core."""

import asyncio
import re
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer
from rich.table import Table

from portico.cli.connect import CREDENTIAL, connect
from portico.cli.console import Console
from portico.client import PorticoError

console = Console()
problems = Console(stderr=True)
keys = typer.Typer(
    help=f"Create, list and revoke API keys. {CREDENTIAL} must hold one with the scope admin.",
    no_args_is_help=True,
)

Core = Annotated[str, typer.Option(help="The core's address.")]
LOCAL = "127.0.0.1:50051"
_LIFETIME = re.compile(r"(\d{1,6})([mhd])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


@keys.command("create")
def create_key(
    user_id: Annotated[str, typer.Argument(help="Whose it is.")],
    tenant: Annotated[str, typer.Option(help="The user's tenant.")] = "",
    scope: Annotated[
        list[str] | None, typer.Option(help="read, use, act-as, deliver or admin; default: use.")
    ] = None,
    name: Annotated[str, typer.Option(help="A name for the key.")] = "",
    expires: Annotated[str, typer.Option(help="Lifetime, such as 90d, 12h or 30m.")] = "",
    core: Core = LOCAL,
) -> None:
    """Create a key. The credential is printed once, as the only line on standard output."""
    until = None if not expires else datetime.now(UTC) + _lifetime(expires)

    async def work() -> None:
        async with connect(core) as client:
            key, credential = await client.identity.create_key(
                user_id=user_id, tenant=tenant, scopes=scope or (), name=name, expires=until
            )
        problems.print(
            f"key {key.key_id} of {_whose(key.principal.tenant, user_id)}; store it now"
            " (it is never shown again)"
        )
        print(credential)

    _do(work())


@keys.command("list")
def list_keys(core: Core = LOCAL) -> None:
    """List all keys, newest first."""

    async def work() -> None:
        table = Table("key", "name", "tenant", "user", "scopes", "created", "ends", box=None)
        async with connect(core) as client:
            async for key in client.identity.list_keys():
                ends = (
                    f"{key.expire_time.ToDatetime():%Y-%m-%d %H:%M}"
                    if key.HasField("expire_time")
                    else "never"
                )
                if key.HasField("revoked_time"):
                    ends = "revoked"
                table.add_row(
                    key.key_id,
                    key.name,
                    key.principal.tenant,
                    key.principal.user_id,
                    " ".join(key.principal.scopes),
                    f"{key.created_time.ToDatetime():%Y-%m-%d %H:%M}",
                    ends,
                )
        console.print(table)

    _do(work())


@keys.command("revoke")
def revoke_key(
    key_id: Annotated[str, typer.Argument(help="The key's id, pk_...")], core: Core = LOCAL
) -> None:
    """Revoke a key immediately."""

    async def work() -> None:
        async with connect(core) as client:
            await client.identity.revoke_key(key_id)

    _do(work())


def _lifetime(text: str) -> timedelta:
    found = _LIFETIME.fullmatch(text)
    if found is None:
        raise typer.BadParameter("expected a lifetime such as 90d, 12h or 30m", param_hint="--expires")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


def _whose(tenant: str, user_id: str) -> str:
    return f"{tenant}/{user_id}" if tenant else user_id


def _do(work: Coroutine[Any, Any, None]) -> None:
    try:
        asyncio.run(work)
    except PorticoError as error:
        problems.print(str(error), style="red")
        raise typer.Exit(1) from None
