"""From a request to a reader: shared by the calls of their own and the multiplexed ones."""

from portico.core.convert.requests import check_id
from portico.core.engine.encoding import StartRequest
from portico.core.engine.reader import LogReader
from portico.core.engine.runs import RunEngine
from portico.core.errors import InvalidArgument
from portico.v1 import query_pb2 as pb


def open_query_now(engine: RunEngine, start: StartRequest) -> LogReader | None:
    """Start a run without waiting; None when the store must be asked about its key."""
    if engine.needs_lookup(start):
        return None
    launched = engine.launch_now(start)
    return None if isinstance(launched, str) else engine.read(launched)


async def open_query(engine: RunEngine, start: StartRequest) -> LogReader:
    """Start the run, or find the one that it repeats, and read it from its first event."""
    launched = await engine.launch(start)
    if isinstance(launched, str):
        return await engine.watch(launched, -1)
    return engine.read(launched)


def open_watch_now(engine: RunEngine, request: pb.WatchRunRequest) -> LogReader | None:
    """Read a live run from the caller's cursor without waiting; None for one that is not live."""
    run_id, after = _cursor(request)
    return engine.watch_live(run_id, after)


async def open_watch(engine: RunEngine, request: pb.WatchRunRequest) -> LogReader:
    """Read any run from the caller's cursor."""
    run_id, after = _cursor(request)
    return await engine.watch(run_id, after)


def _cursor(request: pb.WatchRunRequest) -> tuple[str, int]:
    after = request.after_sequence_number if request.HasField("after_sequence_number") else -1
    if after < -1:
        raise InvalidArgument("after_sequence_number", "must not be negative")
    return check_id(request.run_id, "run_id"), after
