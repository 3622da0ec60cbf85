"""QueryService: starts, reads and controls runs; streams their logs as frames."""

import asyncio
from collections.abc import AsyncIterator
from typing import Literal

from grpc.aio import ServicerContext

from portico.core.convert.budgets import set_duration
from portico.core.convert.enums import STATUS_FROM_PROTO
from portico.core.convert.events import set_finished
from portico.core.convert.messages import load_object, messages_from_proto
from portico.core.convert.requests import check_id, public_request
from portico.core.convert.timestamps import seconds, timestamp
from portico.core.errors import Draining, InvalidArgument, RunNotFound, RunTerminal
from portico.core.execution.execution import Execution
from portico.core.log.reader import LogReader
from portico.core.runs.run_engine import RunEngine
from portico.core.services.multiplex import MultiplexConnection
from portico.core.services.rpc import audit_log
from portico.core.services.rpc.authentication import Authentication, NoAuthentication
from portico.core.services.rpc.current_principal import (
    authenticated_principal,
    check_run_access,
    resolve_list_owner,
    resolve_owner,
)
from portico.core.services.rpc.drain import Drain
from portico.core.services.rpc.page_tokens import decode_token, encode_token, page_size
from portico.core.services.rpc.trace_context import inherit_trace
from portico.core.services.run_readers import (
    admit_child,
    admit_continuation,
    open_log_reader,
    open_run_reader,
    to_run_request,
    wait_reader,
)
from portico.core.stores.ports.stores import RunFilter, RunLog, RunRecord
from portico.telemetry.tracing.rpc_telemetry import RpcTelemetry
from portico.v1 import events_pb2
from portico.v1 import query_pb2 as pb


class QueryService:
    """Serves the runs of one engine."""

    def __init__(
        self,
        engine: RunEngine,
        runs: RunLog,
        drain: Drain,
        authentication: Authentication | NoAuthentication,
        calls: RpcTelemetry | None = None,
    ) -> None:
        self._engine = engine
        self._runs = runs
        self._drain = drain
        self._authentication = authentication
        self._calls = calls

    async def Query(self, request: pb.QueryRequest, context: ServicerContext) -> AsyncIterator[bytes]:
        with inherit_trace(context.invocation_metadata()):
            try:
                reader = await wait_reader(open_run_reader(self._engine, request))
            except asyncio.CancelledError as gone:
                audit_log.record_call("Query", request, code=audit_log.status_code_name(gone))
                raise
            audit_log.record_call("Query", request, run_id=reader.run_id)
        async for frame in self._follow(reader):
            yield frame

    async def WatchRun(self, request: pb.WatchRunRequest, context: ServicerContext) -> AsyncIterator[bytes]:
        async for frame in self._follow(await wait_reader(open_log_reader(self._engine, request))):
            yield frame

    async def _follow(self, reader: LogReader) -> AsyncIterator[bytes]:
        frames = reader.frames()
        try:
            with self._drain.register(reader.interrupt):
                async for frame in frames:
                    yield frame
            if not reader.finished:
                raise Draining
        finally:
            await frames.aclose()
            reader.close()

    async def StartRun(self, request: pb.StartRunRequest, context: ServicerContext) -> pb.StartRunResponse:
        query = request.query
        with inherit_trace(context.invocation_metadata()):
            if query.previous_run_id:
                launched = await admit_continuation(self._engine, query, background=True)
            elif query.parent_run_id:
                launched = await admit_child(self._engine, query, background=True)
            else:
                launched = await self._engine.admit(to_run_request(query, background=True))
        if not isinstance(launched, str):
            await self._engine.wait_durable(launched.run, 0)
            launched = launched.run.run_id
        return pb.StartRunResponse(run=await self._run(launched))

    async def GetRun(self, request: pb.GetRunRequest, context: ServicerContext) -> pb.GetRunResponse:
        run_id = await self._own(request.run_id, reading=True)
        if await self._engine.is_ephemeral(run_id):
            raise RunNotFound(run_id)
        return pb.GetRunResponse(run=await self._run(run_id))

    async def ListRuns(self, request: pb.ListRunsRequest, context: ServicerContext) -> pb.ListRunsResponse:
        size = page_size(request.page_size)
        place = decode_token(request.page_token, float, str)
        statuses = []
        for value in request.statuses:
            if value not in STATUS_FROM_PROTO:
                raise InvalidArgument("statuses", f"unknown value {value}")
            statuses.append(STATUS_FROM_PROTO[value].value)
        where = RunFilter(
            agent_name=request.agent_name or None,
            user_id=resolve_list_owner(request.user_id) or None,
            session_id=request.session_id or None,
            statuses=statuses,
            created_from=_moment(request, "created_from_time"),
            created_until=_moment(request, "created_until_time"),
            status_from=_moment(request, "status_from_time"),
        )
        if request.order not in pb.RunOrder.values():
            raise InvalidArgument("order", f"unknown value {request.order}")
        by_status = request.order == pb.RUN_ORDER_STATUS
        before = None if place is None else (float(str(place[0])), str(place[1]))
        rows = await self._runs.list(where, before, size + 1, by_status=by_status)
        token = ""
        if len(rows) > size:
            last = rows[size - 1]
            token = encode_token(last.updated_at if by_status else last.created_at, last.run_id)
        return pb.ListRunsResponse(
            runs=[_record_run(row) for row in rows[:size]],
            next_page_token=token,
            total_size=await self._runs.count(where) if request.with_total else 0,
        )

    async def CancelRun(self, request: pb.CancelRunRequest, context: ServicerContext) -> pb.CancelRunResponse:
        load_object(request.metadata_json, "metadata_json")
        await self._engine.cancel(await self._own(request.run_id), request.metadata_json)
        return pb.CancelRunResponse(run=await self._run(request.run_id))

    async def InterruptRun(
        self, request: pb.InterruptRunRequest, context: ServicerContext
    ) -> pb.InterruptRunResponse:
        match request.WhichOneof("target"):
            case "run_id":
                run_ids = [await self._own(request.run_id)]
                await self._engine.interrupt(run_ids[0])
            case "session":
                target = request.session
                owner = resolve_owner(target.user_id, "session.user_id")
                session_id = check_id(target.session_id, "session.session_id")
                run_ids = list(await self._engine.interrupt_session(owner, session_id))
                if not run_ids:
                    raise RunTerminal("", "no live run in the session")
            case _:
                raise InvalidArgument("target", "set run_id or session")
        return pb.InterruptRunResponse(runs=[await self._run(run_id) for run_id in run_ids])

    async def ResumeRun(self, request: pb.ResumeRunRequest, context: ServicerContext) -> pb.ResumeRunResponse:
        run_id = await self._own(request.run_id)
        if not request.input:
            raise InvalidArgument("input", "at least one message is required")
        pause = self._engine.live(run_id)
        paused_at = None if pause is None else pause.paused_at
        await self._engine.resume(
            run_id, request.input_request_id, messages_from_proto(request.input, "input")
        )
        run = await self._run(run_id)
        if paused_at is not None:
            run.last_sequence_number = paused_at
        return pb.ResumeRunResponse(run=run)

    async def SteerRun(self, request: pb.SteerRunRequest, context: ServicerContext) -> pb.SteerRunResponse:
        run_id = await self._own(request.run_id)
        if not request.input:
            raise InvalidArgument("input", "at least one message is required")
        await self._engine.steer(run_id, messages_from_proto(request.input, "input"))
        return pb.SteerRunResponse()

    async def DeleteRun(self, request: pb.DeleteRunRequest, context: ServicerContext) -> pb.DeleteRunResponse:
        await self._engine.delete(await self._own(request.run_id))
        return pb.DeleteRunResponse()

    async def Multiplex(
        self, requests: AsyncIterator[bytes], context: ServicerContext
    ) -> AsyncIterator[bytes]:
        authentication = self._authentication.for_connection(authenticated_principal())
        link = MultiplexConnection(self._engine, requests, self._drain, authentication, self._calls)
        try:
            async for response in link.responses():
                yield response
        finally:
            await link.close()

    async def _own(self, run_id: str, *, reading: bool = False) -> str:
        """Checks that the caller owns the run; returns its id. Raises InvalidArgument, RunNotFound."""
        await check_run_access(self._engine, check_id(run_id, "run_id"), reading=reading)
        return run_id

    async def _run(self, run_id: str) -> pb.Run:
        execution = self._engine.execution(run_id)
        if execution is not None:
            told = _live_run(execution)
            output = await self._engine.output(execution)
            if execution.run.published != told.last_sequence_number:
                return await self._run(run_id)  # the run has progressed while the store was read
            for finished in output:
                set_finished(told.response.output.add(), finished)
            return told
        record = await self._runs.get(run_id)
        run = _record_run(record)
        run.request.CopyFrom(public_request(record.request))
        run.idempotency_key = record.idempotency_key or ""
        last = await self._runs.last(run_id)
        if last is not None:
            ending = pb.QueryResponse.FromString(last.data).events[-1]
            run.last_sequence_number = ending.sequence_number
            if ending.HasField("response"):
                run.response.CopyFrom(ending.response)
        return run


def _moment(
    request: pb.ListRunsRequest, field: Literal["created_from_time", "created_until_time", "status_from_time"]
) -> float | None:
    return seconds(getattr(request, field)) if request.HasField(field) else None


def _record_run(record: RunRecord) -> pb.Run:
    return pb.Run(
        response=events_pb2.Response.FromString(record.summary),
        last_sequence_number=record.last_sequence_number,
        background=record.background,
        updated_time=timestamp(record.updated_at),
    )


def _live_run(execution: Execution) -> pb.Run:
    """A live run as the durable log has it (the state that a crash would leave), without output."""
    run = execution.run
    assert run.record is not None  # created with the run's first event
    told = _record_run(run.record)
    if run.budget_tracker is not None:
        # The record has the wall time as of the run's last status; a restart adds the time since then.
        set_duration(told.response.used.wall_time, run.budget_tracker.used().wall_time)
    told.last_sequence_number = run.published
    told.updated_time.CopyFrom(timestamp(run.updated_at))
    told.request.CopyFrom(public_request(run.start.payload))
    told.idempotency_key = run.start.idempotency_key
    return told
