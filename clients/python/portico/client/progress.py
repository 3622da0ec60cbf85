"""How far a reader of a run's log has come, and whether the log may end there."""

from collections.abc import Sequence

from portico.client.errors import ProtocolError
from portico.v1 import events_pb2

TERMINAL = frozenset(
    (
        events_pb2.RUN_STATUS_COMPLETED,
        events_pb2.RUN_STATUS_CANCELED,
        events_pb2.RUN_STATUS_FAILED,
        events_pb2.RUN_STATUS_REJECTED,
        events_pb2.RUN_STATUS_INCOMPLETE,
    )
)
# A stream may end behind these: what follows a pause is another stream's.
RESTING = TERMINAL | {events_pb2.RUN_STATUS_INPUT_REQUIRED}


class Progress:
    """A reader's cursor: every event is to come once and in order."""

    __slots__ = ("at_rest", "is_complete", "next_number", "run_id")

    def __init__(self, run_id: str, after: int | None) -> None:
        # Empty until the first event of a query tells it.
        self.run_id = run_id
        self.next_number = 0 if after is None else after + 1
        # Nothing may follow the caller's own cursor: it may be the last event's.
        self.at_rest = after is not None
        # Whether the terminal event has come.
        self.is_complete = False

    @property
    def last_number(self) -> int | None:
        """The number of the last event taken in; None before the first."""
        return self.next_number - 1 if self.next_number else None

    def take_in(self, events: Sequence[events_pb2.Event]) -> None:
        """Moves past the events of one frame; looks at the first and the last only.

        Raises ProtocolError for a gap or a repeat.
        """
        first = events[0]
        last = events[-1]
        expected = self.next_number
        following = expected + len(events)
        if first.sequence_number != expected or last.sequence_number != following - 1:
            raise ProtocolError(
                f"events {first.sequence_number} to {last.sequence_number} came"
                f" where {expected} to {following - 1} were due",
                metadata={"run_id": self.run_id},
            )
        self.next_number = following
        if not self.run_id:
            self.run_id = first.response.id
        if last.WhichOneof("object") == "response":
            status = last.response.status
            self.at_rest = status in RESTING
            self.is_complete = status in TERMINAL
        else:
            self.at_rest = False

    def go_back(self, next_number: int) -> None:
        """Forgets events that are to be read once more."""
        self.next_number = next_number
        self.at_rest = self.is_complete = False
