"""Opens a LogReader for a query or a watch; used by separate calls and by multiplexed streams."""

from collections.abc import Awaitable

from portico.core.convert.requests import SessionPlacement, check_id, check_query, start_request
from portico.core.errors import InvalidArgument
from portico.core.execution.execution import Execution
from portico.core.log.encoding import RunRequest
from portico.core.log.reader import LogReader
from portico.core.runs.run_engine import RunEngine
from portico.core.services.rpc.current_principal import (
    check_run_access,
    current_principal,
    is_visible,
    resolve_owner,
)
from portico.model.identity import user_of
from portico.v1 import query_pb2 as pb


def open_run_reader(engine: RunEngine, query: pb.QueryRequest) -> LogReader | Awaitable[LogReader]:
    """Starts a run, or finds the one that the request repeats, and reads it from its first event.

    Returns the reader directly in most cases; an awaitable if the store must be queried first.
    """
    if query.previous_run_id:
        return _open(engine, admit_continuation(engine, query))
    if query.parent_run_id:
        return _open(engine, admit_child(engine, query))
    start = to_run_request(query)
    if engine.needs_store(start):
        return _open(engine, engine.admit(start))
    launched = engine.admit_now(start)
    return engine.watch(launched, -1) if isinstance(launched, str) else engine.read(launched)


def to_run_request(query: pb.QueryRequest, *, background: bool | None = None) -> RunRequest:
    """Checks the request and sets its owner. Raises InvalidArgument, Unauthenticated, PermissionDenied."""
    owner = (
        ""
        if current_principal().trusts_request_user
        else resolve_owner(query.request.user_id, "request.user_id")
    )
    return start_request(query, background=background, owner=owner)


async def _open(engine: RunEngine, launching: Awaitable[Execution | str]) -> LogReader:
    launched = await launching
    return await engine.watch(launched, -1) if isinstance(launched, str) else engine.read(launched)


async def _check_behind(engine: RunEngine, query: pb.QueryRequest, run_id: str) -> None:
    """Checks that the referenced run exists and that the caller may use it."""
    check_query(query)
    resolve_owner(query.request.user_id, "request.user_id", required=False)
    await check_run_access(engine, run_id)


async def admit_continuation(
    engine: RunEngine, query: pb.QueryRequest, *, background: bool | None = None
) -> Execution | str:
    """Starts a run that continues another."""
    await _check_behind(engine, query, query.previous_run_id)

    def start(owner: str, session_id: str, own: bool) -> RunRequest:
        return start_request(query, background=background, place=SessionPlacement(owner, session_id, own))

    return await engine.admit_continuation(
        query.previous_run_id,
        start,
        apart=query.ephemeral or query.fork_session,
        before=query.before_message_id,
    )


async def admit_child(
    engine: RunEngine, query: pb.QueryRequest, *, background: bool | None = None
) -> Execution | str:
    """Starts a child run."""
    await _check_behind(engine, query, query.parent_run_id)
    parent = (await engine.running_parent(query.parent_run_id)).run.start
    if query.request.user_id not in ("", user_of(parent.owner)):
        raise InvalidArgument("request.user_id", "differs from the parent run's user; leave it out")
    query.ephemeral = query.ephemeral or bool(parent.ephemeral)
    return await engine.admit(start_request(query, background=background, owner=parent.owner))


def open_log_reader(engine: RunEngine, request: pb.WatchRunRequest) -> LogReader | Awaitable[LogReader]:
    """Reads a run from the caller's cursor. Returns the reader directly if the run is live."""
    run_id, after = _cursor(request)
    live = engine.live(run_id)
    if live is None or not is_visible(live.start.owner, reading=True):
        return _watch(engine, run_id, after)
    reader = engine.watch_live(run_id, after)
    assert reader is not None
    return reader


async def _watch(engine: RunEngine, run_id: str, after: int) -> LogReader:
    await check_run_access(engine, run_id, reading=True)
    return await engine.watch(run_id, after)


async def wait_reader(reader: LogReader | Awaitable[LogReader]) -> LogReader:
    """Awaits the reader if necessary."""
    return reader if isinstance(reader, LogReader) else await reader


def _cursor(request: pb.WatchRunRequest) -> tuple[str, int]:
    after = request.after_sequence_number if request.HasField("after_sequence_number") else -1
    if after < -1:
        raise InvalidArgument("after_sequence_number", "must not be negative")
    return check_id(request.run_id, "run_id"), after
