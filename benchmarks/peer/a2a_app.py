"""The benchmarks' agent on a2a-sdk's request handler and in-memory store: python a2a_app.py PORT."""

import logging
import sys

import uvicorn
from a2a.server.agent_execution import AgentExecutor, RequestContext
from a2a.server.events import EventQueue
from a2a.server.request_handlers import DefaultRequestHandler
from a2a.server.routes import create_agent_card_routes, create_jsonrpc_routes
from a2a.server.tasks import InMemoryTaskStore, TaskUpdater
from a2a.types import a2a_pb2 as a2a
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route


class Tokens(AgentExecutor):
    """Sends the requested number of tokens."""

    async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        assert context.task_id is not None
        assert context.context_id is not None
        assert context.message is not None
        await event_queue.enqueue_event(
            a2a.Task(
                id=context.task_id,
                context_id=context.context_id,
                status=a2a.TaskStatus(state=a2a.TASK_STATE_SUBMITTED),
                history=[context.message],
            )
        )
        updater = TaskUpdater(event_queue, context.task_id, context.context_id)
        await updater.start_work()
        count = int(context.message.parts[0].text)
        for number in range(count):
            part = a2a.Part(text=f"tok{number} ")
            last = number == count - 1
            await updater.add_artifact([part], artifact_id="answer", append=number > 0, last_chunk=last)
        await updater.complete()

    async def cancel(self, context: RequestContext, event_queue: EventQueue) -> None:
        raise NotImplementedError


async def health(request: Request) -> PlainTextResponse:
    """Reports that the server is ready."""
    return PlainTextResponse("ok")


def main() -> None:
    port = int(sys.argv[1])
    logging.disable(logging.CRITICAL)
    card = a2a.AgentCard(
        name="tokens",
        description="Says as many tokens as it is asked for.",
        version="1",
        capabilities=a2a.AgentCapabilities(streaming=True),
        default_input_modes=["text/plain"],
        default_output_modes=["text/plain"],
        supported_interfaces=[
            a2a.AgentInterface(
                url=f"http://127.0.0.1:{port}/a2a", protocol_binding="JSONRPC", protocol_version="1.0"
            )
        ],
        skills=[a2a.AgentSkill(id="tokens", name="Tokens", description="Says tokens.", tags=["tokens"])],
    )
    handler = DefaultRequestHandler(Tokens(), InMemoryTaskStore(), card)
    routes = [
        Route("/health", health),
        *create_agent_card_routes(card),
        *create_jsonrpc_routes(handler, "/a2a"),
    ]
    uvicorn.run(Starlette(routes=routes), port=port, loop="uvloop", http="httptools", access_log=False)


if __name__ == "__main__":
    main()
