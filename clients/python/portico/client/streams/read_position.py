"""How far a reader of a run's log has come, and whether the log may end there."""

from collections.abc import Sequence
from enum import Enum

from portico.client.errors import ProtocolError
from portico.client.run_status import TERMINAL_STATUSES
from portico.v1 import events_pb2


class ReadPosition(Enum):
    """What the last event says of what follows."""

    UNKNOWN = 0  # it is the caller's own cursor, and may be the last
    WITHIN = 1  # more is to come
    PAUSED = 2  # perhaps more: the run waits for input, or waited once
    END = 3  # it was the terminal event


def position_after(event: events_pb2.Event) -> ReadPosition:
    """Where a reader stands who has this event."""
    if event.HasField("response"):
        status = event.response.status
        if status in TERMINAL_STATUSES:
            return ReadPosition.END
        if status == events_pb2.RUN_STATUS_INPUT_REQUIRED:
            return ReadPosition.PAUSED
    return ReadPosition.WITHIN


class ReadProgress:
    """A reader's cursor: every event is to come once and in order."""

    __slots__ = ("_repeats", "next_number", "place", "run_id")

    def __init__(self, run_id: str, after: int | None) -> None:
        # Empty until the first event of a query tells it.
        self.run_id = run_id
        self.next_number = 0 if after is None else after + 1
        self.place = ReadPosition.WITHIN if after is None else ReadPosition.UNKNOWN
        self._repeats = 0

    @property
    def last_number(self) -> int | None:
        """The number of the last event taken in; None before the first."""
        return self.next_number - 1 if self.next_number else None

    def add_frame(self, events: Sequence[events_pb2.Event]) -> int:
        """Moves past the events of one frame; looks at the first and the last only.

        Returns how many at the start were taken in before, and are to be left out.
        Raises ProtocolError for a gap or a repeat.
        """
        # Reading anything of a message costs as much as a call: of a token alone it is read once.
        count = len(events)
        first = events[0]
        last = first if count == 1 else events[-1]
        repeats = self._repeats
        expected = self.next_number - repeats
        following = expected + count
        if first.sequence_number != expected or (count > 1 and last.sequence_number != following - 1):
            raise ProtocolError(
                f"events {first.sequence_number} to {last.sequence_number} came"
                f" where {expected} to {following - 1} were due",
                metadata={"run_id": self.run_id},
            )
        self.next_number = following
        self._repeats = 0
        if not self.run_id:
            self.run_id = first.response.id
        self.place = position_after(last)
        return repeats

    def resume(self) -> int | None:
        """The cursor to go on reading from."""
        self._repeats = 0
        if self.place is ReadPosition.PAUSED:
            # From behind a pause a watch waits for the answer; from before it, it ends if there is none.
            self._repeats = 1
            return self.next_number - 2
        return self.last_number

    def mark(self) -> tuple[int, ReadPosition]:
        """Where the reader stands, for go_back."""
        return self.next_number, self.place

    def go_back(self, mark: tuple[int, ReadPosition]) -> None:
        """Forgets what was taken in since the mark; it is to be read once more."""
        self.next_number, self.place = mark
