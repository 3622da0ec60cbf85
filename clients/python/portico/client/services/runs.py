"""QueryService: starts, follows and steers runs."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Literal, TypeAlias, Unpack

from portico.client.convert import MessagesLike, enum_number, json_text, to_messages, to_timestamp
from portico.client.paging import Listing, listing
from portico.client.run_request import QueryInput, QueryOptions, query_request
from portico.client.run_status import RunStatusName
from portico.client.service import Service
from portico.client.streams.read_position import ReadProgress
from portico.client.streams.run_stream import RunStream
from portico.v1 import events_pb2, query_pb2

RunStatusLike: TypeAlias = events_pb2.RunStatus.ValueType | RunStatusName


class Runs(Service):
    """A client's runs. Every method raises PorticoError."""

    def query(
        self, input: QueryInput, *, resume_timeout: float = 60.0, **options: Unpack[QueryOptions]
    ) -> RunStream:
        """Returns a stream that starts a run when it is first read, and follows it."""
        return RunStream(self._calls, query_request(input, **options), ReadProgress("", None), resume_timeout)

    def watch(self, run_id: str, *, after: int | None = None, resume_timeout: float = 60.0) -> RunStream:
        """Follows a run from its start, or after the event with this number.

        Reading raises CursorAhead or CursorExpired for a number outside of the log.
        """
        return RunStream(self._calls, None, ReadProgress(run_id, after), resume_timeout)

    async def start(self, input: QueryInput, **options: Unpack[QueryOptions]) -> query_pb2.Run:
        """Starts a run in the background; returns once it is logged. Raises SessionBusy, AlreadyExists."""
        request = query_pb2.StartRunRequest(query=query_request(input, **options))
        return (await self._calls.unary(self._calls.connection.runs.StartRun, request)).run

    async def get(self, run_id: str) -> query_pb2.Run:
        """Returns the current state of a run. Raises NotFound."""
        request = query_pb2.GetRunRequest(run_id=run_id)
        return (await self._calls.unary(self._calls.connection.runs.GetRun, request)).run

    def list(
        self,
        *,
        agent: str = "",
        user_id: str | None = None,
        session_id: str | None = None,
        statuses: Iterable[RunStatusLike] = (),
        created_from: datetime | None = None,
        created_until: datetime | None = None,
        status_from: datetime | None = None,
        order: Literal["created", "status"] = "created",
        with_total: bool = False,
        page_size: int = 0,
        page_token: str = "",
    ) -> Listing[query_pb2.ListRunsResponse, query_pb2.Run]:
        """Lists runs that match all given filters, newest first, without their messages.

        The newest run is the one accepted last, or, ordered by status, the one whose status changed
        last.
        """
        request = query_pb2.ListRunsRequest(
            page_size=page_size,
            page_token=page_token,
            agent_name=agent,
            user_id=user_id or "",
            session_id=session_id or "",
            statuses=[enum_number(events_pb2.RunStatus, status, "RUN_STATUS_") for status in statuses],
            created_from_time=to_timestamp(created_from),
            created_until_time=to_timestamp(created_until),
            status_from_time=to_timestamp(status_from),
            order=query_pb2.RUN_ORDER_STATUS if order == "status" else query_pb2.RUN_ORDER_CREATED,
            with_total=with_total,
        )
        return listing(
            self._calls, lambda: self._calls.connection.runs.ListRuns, request, lambda page: page.runs
        )

    async def cancel(self, run_id: str, *, metadata: Mapping[str, Any] | None = None) -> query_pb2.Run:
        """Cancels a run; returns it once it has stopped. The metadata is passed to its agent.

        Raises FailedPrecondition if the run ended otherwise.
        """
        request = query_pb2.CancelRunRequest(run_id=run_id, metadata_json=json_text(metadata))
        return (await self._calls.unary(self._calls.connection.runs.CancelRun, request)).run

    async def interrupt(self, run_id: str) -> query_pb2.Run:
        """Asks the agent to stop at its current step; returns the run once it has ended.

        Raises FailedPrecondition if the run has already ended.
        """
        request = query_pb2.InterruptRunRequest(run_id=run_id)
        return (await self._calls.unary(self._calls.connection.runs.InterruptRun, request)).runs[0]

    async def interrupt_session(
        self, *, session_id: str, user_id: str | None = None
    ) -> tuple[query_pb2.Run, ...]:
        """Interrupts the live runs of a session; queued runs stay queued.

        Raises FailedPrecondition when no run is live.
        """
        session = query_pb2.SessionTarget(user_id=user_id or "", session_id=session_id)
        request = query_pb2.InterruptRunRequest(session=session)
        return tuple((await self._calls.unary(self._calls.connection.runs.InterruptRun, request)).runs)

    async def resume(
        self, run_id: str, input: MessagesLike, *, input_request_id: str | None = None
    ) -> query_pb2.Run:
        """Answers a run that waits for input; its last_sequence_number is the cursor to watch from.

        Raises FailedPrecondition when the run does not wait.
        """
        request = query_pb2.ResumeRunRequest(
            run_id=run_id, input=to_messages(input), input_request_id=input_request_id or ""
        )
        return (await self._calls.unary(self._calls.connection.runs.ResumeRun, request)).run

    async def steer(self, run_id: str, input: MessagesLike) -> None:
        """Sends new input to an executing agent; a response event in the log reports when it is applied.

        Raises FailedPrecondition when the run has ended, ResourceExhausted when too much input waits.
        """
        request = query_pb2.SteerRunRequest(run_id=run_id, input=to_messages(input))
        await self._calls.unary(self._calls.connection.runs.SteerRun, request)

    async def delete(self, run_id: str) -> None:
        """Removes an ended run and its log. Raises FailedPrecondition while the run is live."""
        request = query_pb2.DeleteRunRequest(run_id=run_id)
        await self._calls.unary(self._calls.connection.runs.DeleteRun, request)
