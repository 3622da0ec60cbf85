"""Converts a run's log to Responses events: a pure function of the request and the log.

One run may be several responses: see docs/decisions/0006. The translator reads the log from its start and
writes the events of one response, or of that one and all that follow; it writes nothing for the others.
"""

from collections.abc import Iterable
from typing import Any, TypeAlias

from portico.client.run_status import ACTIVE_STATUSES, TERMINAL_STATUSES
from portico.gateways.openai.responses.request.request_echo import RequestEcho
from portico.gateways.openai.responses.request.tool_answers import echo_of
from portico.gateways.openai.responses.stream.event_writer import NEVER, EventWriter
from portico.gateways.openai.responses.stream.output_items import COMPLETED, INCOMPLETE, TextItem
from portico.gateways.openai.responses.stream.output_messages import OutputMessages
from portico.gateways.openai.responses.stream.response_builder import CANCELLED, FAILED, ResponseBuilder
from portico.v1 import events_pb2 as pb
from portico.v1 import query_pb2

_STATUS = {
    pb.RUN_STATUS_COMPLETED: COMPLETED,
    pb.RUN_STATUS_CANCELED: CANCELLED,
    pb.RUN_STATUS_FAILED: FAILED,
    pb.RUN_STATUS_REJECTED: FAILED,
    pb.RUN_STATUS_INCOMPLETE: INCOMPLETE,
}

# message id, content index, and the item that the text extends
_Text: TypeAlias = tuple[str, int, TextItem | None]
_NO_TEXT: _Text = ("", -1, None)


class ResponseTranslator:
    """Converts the frames of a log, which must be fed completely and in order.

    Args:
        echo: The parameters that the responses repeat.
        number: The wanted response of the run, from 1.
        beyond: The event after which the wanted response begins, as an alternative to `number`.
        after: Sequence number of the last event that the reader has; `NEVER` if only the object is wanted.
        following: Whether to continue with the responses after the wanted one.
    """

    def __init__(
        self,
        echo: RequestEcho,
        *,
        number: int = 1,
        beyond: int = -1,
        after: int = -1,
        following: bool = False,
    ) -> None:
        self._echo = echo
        self._number = number
        self._beyond = beyond
        self._after = after
        self._following = following
        self._frames: list[bytes] = []
        self._segment: ResponseBuilder | None = None
        self._messages: OutputMessages | None = None
        self._attempt = 0
        self._usage: pb.Usage | None = None
        self._answered = 0  # answered input requests
        self._repeated = 0  # answers that this attempt has repeated
        # The output of an attempt until it has repeated all answers: earlier responses already contain it.
        self._withheld: list[pb.Event] | None = None
        # The streaming text; its further deltas need no other check.
        self._text = _NO_TEXT
        self.wanted: ResponseBuilder | None = None
        # the wanted response and, with `following`, its predecessors from there; the last is `wanted`
        self.told: list[ResponseBuilder] = []
        self.done = False  # no event will follow
        self.paused = False  # the run waits for input

    def add_frames(self, frames: Iterable[query_pb2.StreamFrame]) -> list[bytes]:
        """Returns the SSE frames for these frames of the log."""
        told = self._frames
        told.clear()
        open_id, index, item = self._text
        for frame in frames:
            for event in frame.events:
                content = event.content
                text = content.text
                if text and content.delta and content.msg_id == open_id and content.index == index:
                    if item is not None:
                        item.delta(text)
                elif not self.done:
                    self._text = open_id, index, item = self._read(event)
        return told.copy()

    def json(self) -> dict[str, Any] | None:
        """Returns the wanted response in its current state; None if it has not begun."""
        return None if self.wanted is None else self.wanted.json()

    @property
    def reached(self) -> int:
        """The number of the run's last response so far, from 1; 0 if there is none."""
        return 0 if self._segment is None else self._segment.number

    @property
    def next_number(self) -> int:
        """The sequence number of the next event of the wanted response."""
        return 0 if self.wanted is None else self.wanted.writer.number

    @property
    def ahead(self) -> bool:
        """Whether the reader's last event is beyond the events of the wanted response."""
        return self.wanted is not None and NEVER > self._after >= self.next_number

    def _read(self, event: pb.Event) -> _Text:
        """Processes an event, and returns the text that the next deltas may extend."""
        match event.WhichOneof("object"):
            case "response":
                self._response(event.response, event.sequence_number)
            case "message" | "content" if self._withheld is not None:
                self._withheld.append(event)
            case "message" if self._messages is not None:
                self._messages.message(event.message)
            case "content" if self._messages is not None:
                content = event.content
                growing = self._messages.content(content)
                if growing is not None:
                    return content.msg_id, content.index, growing
        return _NO_TEXT

    def _response(self, response: pb.Response, sequence_number: int) -> None:
        again = response.attempt > self._attempt > 0
        self._attempt = response.attempt
        segment = self._segment
        if segment is None:
            segment = self._begin(1, response, sequence_number)
        elif again:
            self._repeated = 0
            if not segment.ended:
                segment.discard_output()
                self._messages = OutputMessages(segment)
                self._withheld = [] if self._answered else None
        status = response.status
        if status == pb.RUN_STATUS_IN_PROGRESS and response.repeated_answers > self._repeated:
            self._repeated = response.repeated_answers
            if self._repeated >= self._answered:
                self._withheld = None
            return
        if response.input or status not in ACTIVE_STATUSES:
            self._tell_withheld()
        self.paused = status == pb.RUN_STATUS_INPUT_REQUIRED
        if status == pb.RUN_STATUS_IN_PROGRESS:
            self._works(segment, response, sequence_number)
        elif segment.ended:
            pass  # changes of a run between two responses appear in the next response, if there is one
        elif status == pb.RUN_STATUS_QUEUED:
            segment.queued()
        elif status == pb.RUN_STATUS_INPUT_REQUIRED:
            assert self._messages is not None
            self._messages.question(response.input_request)
            self._finish(segment, COMPLETED, response)
        elif status in TERMINAL_STATUSES:
            self._finish(segment, _STATUS[status], response)

    def _tell_withheld(self) -> None:
        """Writes the withheld output: this attempt differs from the one before."""
        withheld, self._withheld = self._withheld, None
        for event in withheld or ():
            assert self._messages is not None
            if event.HasField("message"):
                self._messages.message(event.message)
            else:
                self._messages.content(event.content)

    def _works(self, segment: ResponseBuilder, response: pb.Response, sequence_number: int) -> None:
        told = bool(response.input)
        if segment.ended:
            # A run that is restarted after a crash reaches its input request again; only an answer begins a
            # new response.
            if not told:
                return
            self._answered += 1
        elif told and segment.started:
            self._finish(segment, INCOMPLETE, response, reason="steered")
        else:
            segment.in_progress()
            return
        if not self.done:
            self._begin(segment.number + 1, response, sequence_number).in_progress()

    def _begin(self, number: int, response: pb.Response, sequence_number: int) -> ResponseBuilder:
        wanted = number >= self._number and sequence_number > self._beyond
        if self.wanted is not None:
            wanted = self._following
        after = self._after if wanted and self.wanted is None else -1 if wanted else NEVER
        if response.input:
            self._echo = echo_of(response.input, self._echo)
        segment = ResponseBuilder(number, response, self._echo, EventWriter(self._frames, after), self._usage)
        if wanted:
            self.wanted = segment
            self.told.append(segment)
        self._segment = segment
        self._messages = OutputMessages(segment)
        return segment

    def _finish(
        self, segment: ResponseBuilder, status: str, response: pb.Response, *, reason: str | None = None
    ) -> None:
        segment.finish(status, response, reason=reason)
        self._messages = None
        if response.HasField("usage"):
            self._usage = response.usage
        if segment is self.wanted and not self._following:
            self.done = True
