"""`portico sandbox list`, `delete`, `upload` and `download`: the sandboxes of a running core."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from pathlib import Path, PurePosixPath
from secrets import token_hex
from typing import Annotated, Any

import typer
from rich.table import Table

from portico.cli.connect import connect
from portico.cli.console import Console
from portico.cli.transfer_progress import transfer
from portico.client import PorticoError
from portico.client.sandboxes.files import PIECE_BYTES
from portico.v1 import sandbox_pb2

sandbox = typer.Typer(help="Run untrusted code, and manage sandboxes.", no_args_is_help=True)
console = Console()
problems = Console(stderr=True)

Core = Annotated[str, typer.Option(help="The core's address.")]
SandboxId = Annotated[str, typer.Argument(help="The sandbox's id.")]


@sandbox.command("list")
def list_sandboxes(
    core: Core = "127.0.0.1:50051", user_id: str | None = None, session_id: str | None = None
) -> None:
    """List a core's sandboxes, newest first."""

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
    """Delete a sandbox and everything in it."""

    async def work() -> None:
        async with connect(core) as client:
            await client.sandboxes.delete(sandbox_id)

    _do(work())


@sandbox.command("upload")
def upload_file(
    sandbox_id: SandboxId,
    file: Annotated[Path, typer.Argument(help="The local file.", exists=True, dir_okay=False)],
    path: Annotated[str, typer.Argument(help="Its path in the sandbox; by default the file's name.")] = "",
    core: Core = "127.0.0.1:50051",
) -> None:
    """Copy a file into a sandbox."""

    async def work() -> None:
        async with connect(core) as client:
            with transfer(file.name, file.stat().st_size) as moved:
                await client.sandboxes.write_file(sandbox_id, path or file.name, _pieces(file, moved))

    _do(work())


@sandbox.command("download")
def download_file(
    sandbox_id: SandboxId,
    path: Annotated[str, typer.Argument(help="The file's path in the sandbox.")],
    file: Annotated[
        Path | None, typer.Argument(help="The local path; by default the file's name.", dir_okay=False)
    ] = None,
    core: Core = "127.0.0.1:50051",
) -> None:
    """Copy a file out of a sandbox. An existing local file stays until the copy is complete."""
    target = file or Path(PurePosixPath(path).name)

    async def work() -> None:
        async with connect(core) as client, await client.sandboxes.open_file(sandbox_id, path) as reader:
            part = target.parent / f".{target.name[:100]}.{token_hex(6)}"
            try:
                with transfer(target.name, reader.length) as moved, part.open("xb") as to:
                    async for piece in reader:
                        await asyncio.to_thread(to.write, piece)
                        moved(len(piece))
                part.replace(target)
            finally:
                part.unlink(missing_ok=True)

    _do(work())


async def _pieces(file: Path, moved: Callable[[int], None]) -> AsyncGenerator[bytes, None]:
    with await asyncio.to_thread(file.open, "rb") as opened:
        while piece := await asyncio.to_thread(opened.read, PIECE_BYTES):
            yield piece
            moved(len(piece))


def _do(work: Coroutine[Any, Any, None]) -> None:
    try:
        asyncio.run(work)
    except (PorticoError, OSError) as error:
        problems.print(str(error), style="red")
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
