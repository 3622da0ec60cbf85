"""ListTasks: pages of runs, latest change of status first."""

import asyncio

from a2a.types import a2a_pb2 as a2a
from a2a.utils.constants import DEFAULT_LIST_TASKS_PAGE_SIZE
from a2a.utils.task import apply_history_length, validate_history_length, validate_page_size

from portico.client import NotFound
from portico.client.paging import Listing
from portico.gateways.a2a.call_context import Caller
from portico.gateways.a2a.tasks.start_task import client_of, replay
from portico.gateways.a2a.tasks.task_status import STATES, WAITING, state_of
from portico.gateways.http.core_connection import CoreConnection
from portico.v1 import agent_pb2, query_pb2
from portico.v1 import events_pb2 as pb

Runs = Listing[query_pb2.ListRunsResponse, query_pb2.Run]
_LARGE_PAGE = 200
_AT_ONCE = 16  # logs read concurrently for one page


async def list_tasks(
    core: CoreConnection, agent: agent_pb2.Agent, params: a2a.ListTasksRequest, caller: Caller
) -> a2a.ListTasksResponse:
    """Returns one page of tasks. Raises PorticoError, InvalidParamsError."""
    validate_history_length(params)
    if params.HasField("page_size"):
        validate_page_size(params.page_size)
    size = params.page_size or DEFAULT_LIST_TASKS_PAGE_SIZE
    client = client_of(core, caller)

    def listing(page_size: int, page_token: str) -> Runs:
        return client.runs.list(
            agent=agent.name,
            session_id=params.context_id or None,
            statuses=_statuses(params.status),
            order="status",
            status_from=(
                params.status_timestamp_after.ToDatetime()
                if params.HasField("status_timestamp_after")
                else None
            ),
            with_total=True,
            page_size=page_size,
            page_token=page_token,
        )

    if params.status in WAITING:
        page = await _waiting(listing(_LARGE_PAGE, ""), params.status, size, params.page_token)
    else:
        page = await listing(size, params.page_token).page()
    reading = asyncio.Semaphore(_AT_ONCE)

    async def task(run: query_pb2.Run) -> a2a.Task | None:
        async with reading:
            try:
                run = await client.runs.get(run.response.id)
            except NotFound:
                return None  # deleted in the meantime
            translator = await replay(core, run, run.last_sequence_number, caller)
        told = translator.task()
        if not params.include_artifacts:
            told.ClearField("artifacts")
        return apply_history_length(told, params)

    tasks = await asyncio.gather(*(task(run) for run in page.runs))
    return a2a.ListTasksResponse(
        tasks=[told for told in tasks if told is not None],
        next_page_token=page.next_page_token,
        page_size=size,
        total_size=page.total_size,
    )


async def _waiting(runs: Runs, state: a2a.TaskState, size: int, token: str) -> query_pb2.ListRunsResponse:
    """Returns a page of tasks in one of the two waiting states. Both are one run status, and such runs are
    few, so that they are filtered here.

    The token is the id of the last task of the previous page.
    """
    found = [run async for run in runs if state_of(run.response) == state]
    ids = [run.response.id for run in found]
    start = ids.index(token) + 1 if token in ids else 0
    more = len(found) > start + size
    return query_pb2.ListRunsResponse(
        runs=found[start : start + size],
        next_page_token=ids[start + size - 1] if more else "",
        total_size=len(found),
    )


def _statuses(state: a2a.TaskState) -> list[pb.RunStatus.ValueType]:
    if state == a2a.TASK_STATE_UNSPECIFIED:
        return []
    if state == a2a.TASK_STATE_AUTH_REQUIRED:
        return [pb.RUN_STATUS_INPUT_REQUIRED]
    return [status for status, told in STATES.items() if told == state]
