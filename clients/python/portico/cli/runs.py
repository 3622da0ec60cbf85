"""`portico runs`: lists, follows and stops runs."""

import asyncio
import sys
from collections.abc import Coroutine
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from google.protobuf.json_format import MessageToJson
from rich.table import Table

from portico.cli.chat import show
from portico.cli.connect import connect
from portico.cli.console import Console
from portico.client import PorticoError
from portico.v1 import events_pb2

# A pipe has no width: complete ids matter more than aligned columns there.
console = Console(width=None if sys.stdout.isatty() else 240)
runs = typer.Typer(help="List, follow and stop runs.", no_args_is_help=True)

Core = Annotated[str, typer.Option(help="The core's address.")]
RunId = Annotated[str, typer.Argument(help="The run's id, resp_...")]
LOCAL = "127.0.0.1:50051"


def _do(work: Coroutine[Any, Any, None]) -> None:
    try:
        asyncio.run(work)
    except PorticoError as error:
        console.print(str(error), style="red")
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def _status(status: int) -> str:
    return (
        events_pb2.RunStatus.Name(events_pb2.RunStatus.ValueType(status)).removeprefix("RUN_STATUS_").lower()
    )


@runs.command("list")
def list_runs(
    agent: Annotated[str, typer.Option(help="Only of this agent.")] = "",
    user_id: Annotated[str | None, typer.Option(help="Only of this user.")] = None,
    session_id: Annotated[str | None, typer.Option(help="Only of this session.")] = None,
    limit: Annotated[int, typer.Option(help="How many.", min=1)] = 20,
    core: Core = LOCAL,
) -> None:
    """List the newest runs."""

    async def work() -> None:
        table = Table(box=None)
        for heading in ("run", "agent", "status", "user", "session", "created", "events"):
            table.add_column(heading, no_wrap=heading in ("run", "created"), overflow="fold")
        async with connect(core) as client:
            left = limit
            async for run in client.runs.list(agent=agent, user_id=user_id, session_id=session_id):
                response = run.response
                created = datetime.fromtimestamp(response.created_time.seconds, UTC).astimezone()
                table.add_row(
                    response.id,
                    response.agent_name,
                    _status(response.status),
                    response.user_id,
                    response.session_id,
                    created.strftime("%Y-%m-%d %H:%M:%S"),
                    str(run.last_sequence_number + 1),
                )
                left -= 1
                if not left:
                    break
        console.print(table)

    _do(work())


@runs.command()
def get(run_id: RunId, core: Core = LOCAL) -> None:
    """Print one run as JSON."""

    async def work() -> None:
        async with connect(core) as client:
            run = await client.runs.get(run_id)
            console.print_json(MessageToJson(run, preserving_proto_field_name=True))

    _do(work())


@runs.command()
def watch(
    run_id: RunId,
    after: Annotated[int, typer.Option(help="Start after this event.", min=-1)] = -1,
    core: Core = LOCAL,
) -> None:
    """Follow a run from its first event, or after a given event."""

    async def work() -> None:
        async with (
            connect(core) as client,
            client.runs.watch(run_id, after=None if after < 0 else after) as stream,
        ):
            response = await show(stream)
            if response is not None:
                console.print(_status(response.status), style="dim")

    _do(work())


@runs.command()
def cancel(run_id: RunId, core: Core = LOCAL) -> None:
    """Cancel a run; returns once it has stopped."""

    async def work() -> None:
        async with connect(core) as client:
            run = await client.runs.cancel(run_id)
            console.print(_status(run.response.status))

    _do(work())


@runs.command()
def delete(run_id: RunId, core: Core = LOCAL) -> None:
    """Remove an ended run and its log."""

    async def work() -> None:
        async with connect(core) as client:
            await client.runs.delete(run_id)

    _do(work())
