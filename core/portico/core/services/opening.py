"""From a request to a reader: shared by the calls of their own and the multiplexed ones."""

from collections.abc import Awaitable

from portico.core.convert.requests import Place, check_id, check_query, start_request
from portico.core.engine.encoding import StartRequest
from portico.core.engine.execution import Execution
from portico.core.engine.reader import LogReader
from portico.core.engine.runs import RunEngine
from portico.core.errors import InvalidArgument
from portico.v1 import query_pb2 as pb


def open_query(engine: RunEngine, query: pb.QueryRequest) -> LogReader | Awaitable[LogReader]:
    """Start a run, or find the one that it repeats, to be read from its first event.

    At once if that is possible, which it is for most; else when the store has been asked.
    """
    if query.previous_run_id:
        return _open(engine, launch_after(engine, query))
    start = start_request(query)
    if engine.needs_lookup(start):
        return _open(engine, engine.launch(start))
    launched = engine.launch_now(start)
    return engine.watch(launched, -1) if isinstance(launched, str) else engine.read(launched)


async def _open(engine: RunEngine, launching: Awaitable[Execution | str]) -> LogReader:
    launched = await launching
    return await engine.watch(launched, -1) if isinstance(launched, str) else engine.read(launched)


async def launch_after(
    engine: RunEngine, query: pb.QueryRequest, *, background: bool | None = None
) -> Execution | str:
    """Accept a run that continues another."""
    check_query(query)

    def start(user_id: str, session_id: str, own: bool) -> StartRequest:
        return start_request(query, background=background, place=Place(user_id, session_id, own))

    return await engine.launch_after(
        query.previous_run_id,
        start,
        apart=query.ephemeral or query.fork_session,
        before=query.before_message_id,
    )


def open_watch(engine: RunEngine, request: pb.WatchRunRequest) -> LogReader | Awaitable[LogReader]:
    """Read a run from the caller's cursor: a live one at once."""
    run_id, after = _cursor(request)
    reader = engine.watch_live(run_id, after)
    return engine.watch(run_id, after) if reader is None else reader


async def opened(reader: LogReader | Awaitable[LogReader]) -> LogReader:
    """The reader, once it is there."""
    return reader if isinstance(reader, LogReader) else await reader


def _cursor(request: pb.WatchRunRequest) -> tuple[str, int]:
    after = request.after_sequence_number if request.HasField("after_sequence_number") else -1
    if after < -1:
        raise InvalidArgument("after_sequence_number", "must not be negative")
    return check_id(request.run_id, "run_id"), after
