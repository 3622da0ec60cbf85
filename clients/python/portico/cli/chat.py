"""`portico chat`: talks to an agent of a running core in the terminal."""

import asyncio
from typing import Annotated
from uuid import uuid4

import typer
from rich.text import Text

from portico.cli.connect import connect
from portico.cli.console import Console
from portico.client import Client, PorticoError
from portico.client.run_request import QueryOptions, to_budget
from portico.client.streams.run_stream import RunStream
from portico.v1 import events_pb2

console = Console()
EXAMPLE = "wall_time=60,tool_calls=5,tokens=9000,child_runs=0"


def chat(
    agent: Annotated[str, typer.Argument(help="The agent; the core's default if left out.")] = "",
    core: Annotated[str, typer.Option(help="The core's address.")] = "127.0.0.1:50051",
    message: Annotated[str, typer.Option("--message", "-m", help="Send this message and exit.")] = "",
    session_id: Annotated[str | None, typer.Option(help="Continue the session with this id.")] = None,
    user_id: Annotated[str | None, typer.Option(help="The user, unless the credential names one.")] = None,
    budget: Annotated[str, typer.Option(help=f"Limits of each answer, such as {EXAMPLE}.")] = "",
) -> None:
    """Talk to an agent; its answer streams. An empty line or Ctrl-D ends."""
    if session_id is None:
        session_id = f"chat-{uuid4().hex[:8]}"
    options = QueryOptions(agent=agent, session_id=session_id, user_id=user_id)
    if budget:
        options["budget"] = _budget(budget)
    try:
        asyncio.run(_chat(core, message, options))
    except PorticoError as error:
        console.print(str(error), style="red")
        raise typer.Exit(1) from None
    except (KeyboardInterrupt, EOFError):
        raise typer.Exit from None


def _budget(text: str) -> events_pb2.Budget:
    """Parses the option --budget. Raises BadParameter."""
    limits: dict[str, float] = {}
    try:
        for pair in text.split(","):
            name, _, value = pair.strip().partition("=")
            limits[name] = float(value) if name == "wall_time" else int(value)
        return to_budget(limits)
    except (ValueError, OverflowError):
        raise typer.BadParameter(f"{text!r} is not like {EXAMPLE}", param_hint="--budget") from None


async def _chat(core: str, message: str, options: QueryOptions) -> None:
    async with connect(core) as client:
        # A core that checks credentials knows the user.
        if options["user_id"] is None and await client.identity.caller() is None:
            options["user_id"] = "terminal"
        if message:
            await _turn(client, message, options)
            return
        console.print(f"session {options['session_id']}; an empty line ends")
        while line := (await asyncio.to_thread(console.input, Text("you  ", style="bold"))).strip():
            await _turn(client, line, options)


async def _turn(client: Client, line: str, options: QueryOptions) -> None:
    stream = client.runs.query(line, **options)
    while True:
        async with stream:
            response = await show(stream)
        if response is None or response.status != events_pb2.RUN_STATUS_INPUT_REQUIRED:
            return
        prompt = Text(f"{response.input_request.prompt} ", style="bold")
        answer = await asyncio.to_thread(console.input, prompt)
        run = await client.runs.resume(response.id, answer)
        stream = client.runs.watch(response.id, after=run.last_sequence_number)


async def show(stream: RunStream) -> events_pb2.Response | None:
    """Prints text deltas as they arrive; returns the last response event."""
    response = None
    reasoning = False
    async for event in stream:
        match event.WhichOneof("object"):
            case "message" if event.message.status == events_pb2.RUN_STATUS_IN_PROGRESS:
                reasoning = event.message.type == events_pb2.MESSAGE_TYPE_REASONING
                if event.message.type not in (
                    events_pb2.MESSAGE_TYPE_MESSAGE,
                    events_pb2.MESSAGE_TYPE_REASONING,
                ):
                    name = events_pb2.MessageType.Name(event.message.type)
                    console.print(name.removeprefix("MESSAGE_TYPE_").lower(), style="dim")
            case "message":
                console.print()
            case "content" if event.content.delta:
                style = "dim" if reasoning else ""
                console.print(event.content.text, end="", style=style, soft_wrap=True)
            case "content" if event.content.HasField("data_json"):
                if event.content.status == events_pb2.RUN_STATUS_COMPLETED:
                    console.print(event.content.data_json, style="dim", soft_wrap=True, end="")
            case "response":
                response = event.response
                if response.attempt > 1 and response.status == events_pb2.RUN_STATUS_IN_PROGRESS:
                    console.print(f"\nthe core restarted; attempt {response.attempt}", style="yellow")
    if response is not None and response.HasField("error"):
        console.print(f"{response.error.code}: {response.error.message}", style="red")
    return response
