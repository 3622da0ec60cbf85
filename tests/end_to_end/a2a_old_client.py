"""a2a-sdk 0.3.26 in a separate venv: python a2a_old_client.py URL BINDING; prints a line of JSON for each
step.
"""

import asyncio
import json
import sys
from typing import Any
from uuid import uuid4

import grpc.aio
import httpx
from a2a.client import ClientConfig, ClientFactory
from a2a.types import Message, Part, Role, TaskIdParams, TaskQueryParams, TextPart


def say(step: str, **told: Any) -> None:
    sys.stdout.write(json.dumps({"step": step, **told}) + "\n")


def ask(text: str, task_id: str | None = None) -> Message:
    return Message(
        message_id=uuid4().hex, role=Role.user, parts=[Part(root=TextPart(text=text))], task_id=task_id
    )


def said(task: Any) -> str:
    return "".join(part.root.text for artifact in task.artifacts or [] for part in artifact.parts)


async def last(client: Any, message: Message) -> Any:
    """Returns the task at the end of the stream."""
    return [task async for task, _ in client.send_message(message)][-1]


async def main(url: str, binding: str) -> None:
    async with httpx.AsyncClient(timeout=30) as http:
        config = ClientConfig(
            httpx_client=http,
            supported_transports=[binding],
            use_client_preference=True,
            grpc_channel_factory=grpc.aio.insecure_channel,
        )
        client = await ClientFactory.connect(url, config)
        kinds, task = [], None
        async for told, update in client.send_message(ask("count 3")):
            task = told
            kinds.append("task" if update is None else update.kind)
        say("stream", kinds=kinds, text=said(task), state=task.status.state.value)
        got = await client.get_task(TaskQueryParams(id=task.id))
        say("get", text=said(got), state=got.status.state.value, history=len(got.history))
        task = await last(client, ask("ask"))
        say("asked", state=task.status.state.value)
        task = await last(client, ask("Rome", task.id))
        say("answer", state=task.status.state.value, text=said(task))
        cancel = None
        async for told, update in client.send_message(ask("forever /dev/null")):
            task = told
            if cancel is None and update is not None and update.kind == "artifact-update":
                cancel = asyncio.create_task(client.cancel_task(TaskIdParams(id=task.id)))
        say("cancel", state=(await cancel).status.state.value)


asyncio.run(main(*sys.argv[1:]))
