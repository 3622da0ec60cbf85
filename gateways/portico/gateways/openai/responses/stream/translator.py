"""A run's log as Responses events: a pure function of the request and the log.

One run may be several responses: see docs/decisions/0006. The translator reads
the log from its start, tells one response of it (or that one and all that
follow), and is silent about the others.
"""

from collections.abc import Iterable
from typing import Any, TypeAlias

from portico.gateways.http.sse_stream import TERMINAL
from portico.gateways.openai.responses.request.request_echo import Echo
from portico.gateways.openai.responses.request.tool_answers import echo_of
from portico.gateways.openai.responses.stream.event_writer import NEVER, Writer
from portico.gateways.openai.responses.stream.output_items import COMPLETED, INCOMPLETE, TextItem
from portico.gateways.openai.responses.stream.output_messages import Messages
from portico.gateways.openai.responses.stream.response_builder import CANCELLED, FAILED, Segment
from portico.v1 import events_pb2 as pb
from portico.v1 import query_pb2

_STATUS = {
    pb.RUN_STATUS_COMPLETED: COMPLETED,
    pb.RUN_STATUS_CANCELED: CANCELLED,
    pb.RUN_STATUS_FAILED: FAILED,
    pb.RUN_STATUS_REJECTED: FAILED,
    pb.RUN_STATUS_INCOMPLETE: INCOMPLETE,
}
_UNDER_WAY = frozenset((pb.RUN_STATUS_CREATED, pb.RUN_STATUS_QUEUED, pb.RUN_STATUS_IN_PROGRESS))

_Text: TypeAlias = tuple[str, int, TextItem | None]  # its message and content, and the item that it grows
_NO_TEXT: _Text = ("", -1, None)


class Translator:
    """Feed it all frames of a log, in order.

    `number` is the response of the run that is wanted, or `beyond` the event after which it begins; `after`
    is the last of its events that the reader has, `NEVER` for a reader of the object alone. `following` goes
    on with the responses behind it.
    """

    def __init__(
        self,
        echo: Echo,
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
        self._segment: Segment | None = None
        self._messages: Messages | None = None
        self._attempt = 0
        self._usage: pb.Usage | None = None
        self._answered = 0  # questions
        self._repeated = 0  # of their answers, in this attempt
        # What an attempt says until all of them were repeated: the responses before have told it.
        self._withheld: list[pb.Event] | None = None
        # The text that streams: further deltas of it need no look at anything else.
        self._text = _NO_TEXT
        self.wanted: Segment | None = None
        self.told: list[Segment] = []  # the wanted one and, if following, those before it that were
        self.done = False  # nothing more will be told
        self.paused = False  # the run waits for an answer

    def feed(self, frames: Iterable[query_pb2.StreamFrame]) -> list[bytes]:
        """The SSE frames of what these bring."""
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
        """The wanted response as it stands; None while it has not begun."""
        return None if self.wanted is None else self.wanted.json()

    @property
    def reached(self) -> int:
        """Which of the run's responses is the last so far, from 1."""
        return 0 if self._segment is None else self._segment.number

    @property
    def next_number(self) -> int:
        """The number that the next event of the wanted response would have."""
        return 0 if self.wanted is None else self.wanted.writer.number

    @property
    def ahead(self) -> bool:
        """Whether the reader's last event is none that the wanted response has."""
        return self.wanted is not None and NEVER > self._after >= self.next_number

    def _read(self, event: pb.Event) -> _Text:
        """Returns the text that streams behind the event."""
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
                segment.void()
                self._messages = Messages(segment)
                self._withheld = [] if self._answered else None
        status = response.status
        if status == pb.RUN_STATUS_IN_PROGRESS and response.repeated_answers > self._repeated:
            self._repeated = response.repeated_answers
            if self._repeated >= self._answered:
                self._withheld = None
            return
        if response.input or status not in _UNDER_WAY:
            self._tell_withheld()
        self.paused = status == pb.RUN_STATUS_INPUT_REQUIRED
        if status == pb.RUN_STATUS_IN_PROGRESS:
            self._works(segment, response, sequence_number)
        elif segment.ended:
            pass  # what becomes of a run between two responses is told by the next one, if there is one
        elif status == pb.RUN_STATUS_QUEUED:
            segment.queued()
        elif status == pb.RUN_STATUS_INPUT_REQUIRED:
            assert self._messages is not None
            self._messages.question(response.input_request)
            self._finish(segment, COMPLETED, response)
        elif status in TERMINAL:
            self._finish(segment, _STATUS[status], response)

    def _tell_withheld(self) -> None:
        """The agent goes another way this time."""
        withheld, self._withheld = self._withheld, None
        for event in withheld or ():
            assert self._messages is not None
            if event.HasField("message"):
                self._messages.message(event.message)
            else:
                self._messages.content(event.content)

    def _works(self, segment: Segment, response: pb.Response, sequence_number: int) -> None:
        told = bool(response.input)
        if segment.ended:
            # Run again after a crash, it comes to its question once more; only an answer leads on.
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

    def _begin(self, number: int, response: pb.Response, sequence_number: int) -> Segment:
        wanted = number >= self._number and sequence_number > self._beyond
        if self.wanted is not None:
            wanted = self._following
        after = self._after if wanted and self.wanted is None else -1 if wanted else NEVER
        if response.input:
            self._echo = echo_of(response.input, self._echo)
        segment = Segment(number, response, self._echo, Writer(self._frames, after), self._usage)
        if wanted:
            self.wanted = segment
            self.told.append(segment)
        self._segment = segment
        self._messages = Messages(segment)
        return segment

    def _finish(
        self, segment: Segment, status: str, response: pb.Response, *, reason: str | None = None
    ) -> None:
        segment.finish(status, response, reason=reason)
        self._messages = None
        if response.HasField("usage"):
            self._usage = response.usage
        if segment is self.wanted and not self._following:
            self.done = True
