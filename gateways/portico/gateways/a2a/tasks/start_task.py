"""Starts a run for a message, or brings the message to the run that waits for it, and follows the run."""

from dataclasses import dataclass

from a2a.types import a2a_pb2 as a2a
from a2a.utils.errors import TaskNotFoundError, UnsupportedOperationError
from google.protobuf import json_format

from portico.client import Client, MultiplexedStream
from portico.gateways.a2a.call_context import Caller
from portico.gateways.a2a.errors import invalid
from portico.gateways.a2a.tasks.message_parts import struct_json, to_message
from portico.gateways.a2a.tasks.task_status import ENDED, state_of
from portico.gateways.a2a.tasks.translator import TaskTranslator
from portico.gateways.http.core_connection import CoreConnection
from portico.gateways.http.errors import BadRequest
from portico.gateways.http.request.budget_json import read_budget
from portico.v1 import agent_pb2, query_pb2
from portico.v1 import events_pb2 as pb

BUDGET = "portico.budget"  # key in a request's metadata


@dataclass(slots=True)
class FollowedRun:
    """A run's stream, and the translation of its log so far. The owner closes the stream."""

    stream: MultiplexedStream
    translator: TaskTranslator

    @property
    def known(self) -> bool:
        """Whether the task is known already; otherwise the first event creates it."""
        return bool(self.translator.task_id)


def client_of(core: CoreConnection, caller: Caller) -> Client:
    """Returns a client that makes calls with the caller's credential and metadata."""
    return core.client.with_options(metadata=caller.metadata) if caller.metadata else core.client


async def start(
    core: CoreConnection, agent: agent_pb2.Agent, params: a2a.SendMessageRequest, caller: Caller
) -> FollowedRun:
    """Starts a run for a message without a task id. Raises PorticoError, InvalidParamsError."""
    message = to_message(params.message)
    message.extensions.extend(sorted(caller.extensions.difference(message.extensions)))
    query = query_pb2.QueryRequest(
        background=True,
        idempotency_key=caller.idempotency_key,
        # Tasks of a context run in parallel: one that waits for a person must not block the next.
        if_session_busy=query_pb2.SESSION_BUSY_POLICY_PARALLEL,
    )
    request = query.request
    request.agent_name = agent.name
    request.input.append(message)
    request.request_id = message.id
    request.metadata_json = struct_json(params.metadata)
    if BUDGET in params.metadata:
        given = json_format.MessageToDict(params.metadata)[BUDGET]
        try:
            read_budget(given, f"metadata.{BUDGET}", query.budget)
        except BadRequest as error:
            raise invalid(error.field, error.message.partition(": ")[2]) from None
    request.accepted_output_modes.extend(params.configuration.accepted_output_modes)
    if params.message.context_id:
        request.session_id = params.message.context_id
        request.user_id = await _user_of(core, caller, params.message.context_id)
    stream = core.streams.open_query(query, metadata=caller.metadata)
    return FollowedRun(stream, TaskTranslator(request))


async def _user_of(core: CoreConnection, caller: Caller, context_id: str) -> str:
    """Returns the user of a context's session: that of its last run. A new session is its own user, which the
    core ensures.
    """
    page = await client_of(core, caller).runs.list(session_id=context_id, page_size=1).page()
    return page.runs[0].response.user_id if page.runs else ""


async def continue_task(
    core: CoreConnection, agent: agent_pb2.Agent, params: a2a.SendMessageRequest, caller: Caller
) -> FollowedRun:
    """Sends a message to the run that it names: as the input that the run waits for, or as steering.

    Raises PorticoError, A2AError.
    """
    message = params.message
    run = await run_of(core, agent, message.task_id, caller)
    if message.context_id and message.context_id != run.response.session_id:
        raise invalid("message.context_id", "does not match the context of the task")
    if state_of(run.response) in ENDED:
        raise UnsupportedOperationError(
            message="The task has ended; send a message without a task id", data={"taskId": message.task_id}
        )
    told = to_message(message)
    runs = client_of(core, caller).runs
    if run.response.status == pb.RUN_STATUS_INPUT_REQUIRED:
        question = run.response.input_request.id
        resumed = await runs.resume(message.task_id, told, input_request_id=question)
        # The event after the pause contains the answer.
        cursor = resumed.last_sequence_number + 1
    else:
        await runs.steer(message.task_id, told)
        cursor = run.last_sequence_number
    return await follow(core, run, cursor, caller)


async def run_of(core: CoreConnection, agent: agent_pb2.Agent, task_id: str, caller: Caller) -> query_pb2.Run:
    """Returns a run of the agent. Raises TaskNotFoundError, PorticoError."""
    run = await client_of(core, caller).runs.get(task_id)
    if run.response.agent_name != agent.name:
        raise TaskNotFoundError(data={"taskId": task_id})
    return run


async def replay(core: CoreConnection, run: query_pb2.Run, cursor: int, caller: Caller) -> TaskTranslator:
    """Translates a run's log up to an existing event. Raises PorticoError."""
    translator = TaskTranslator(run.request)
    watch = query_pb2.WatchRunRequest(run_id=run.response.id)
    with core.streams.open_watch(watch, metadata=caller.metadata) as stream:
        async for frames in stream:
            for frame in frames:
                for event in frame.events:
                    if event.sequence_number > cursor:
                        return translator
                    translator.add_event(event, telling=False)
                    if event.sequence_number == cursor:
                        return translator
    return translator


async def follow(core: CoreConnection, run: query_pb2.Run, cursor: int, caller: Caller) -> FollowedRun:
    """Translates a run's log up to an event, and opens a stream of the events after it. Raises
    PorticoError.
    """
    translator = await replay(core, run, cursor, caller)
    watch = query_pb2.WatchRunRequest(run_id=run.response.id, after_sequence_number=cursor)
    return FollowedRun(core.streams.open_watch(watch, metadata=caller.metadata), translator)
