"""The position of a reader in a run's log, and whether the log may end there."""

from collections.abc import Sequence
from enum import Enum

from portico.client.errors import ProtocolError
from portico.client.run_status import TERMINAL_STATUSES
from portico.v1 import events_pb2


class ReadPosition(Enum):
    """Whether more events follow the last one."""

    UNKNOWN = 0  # the caller's own cursor, which may be the last event
    WITHIN = 1  # more events follow
    PAUSED = 2  # more may follow: the run waits for input, or has waited before
    END = 3  # it was the terminal event


def position_after(event: events_pb2.Event) -> ReadPosition:
    """Returns the position of a reader after this event."""
    if event.HasField("response"):
        status = event.response.status
        if status in TERMINAL_STATUSES:
            return ReadPosition.END
        if status == events_pb2.RUN_STATUS_INPUT_REQUIRED:
            return ReadPosition.PAUSED
    return ReadPosition.WITHIN


class ReadProgress:
    """The cursor of a reader: every event must arrive once and in order."""

    __slots__ = ("_repeats", "next_number", "place", "run_id")

    def __init__(self, run_id: str, after: int | None) -> None:
        # Empty until a query's first event contains it.
        self.run_id = run_id
        self.next_number = 0 if after is None else after + 1
        self.place = ReadPosition.WITHIN if after is None else ReadPosition.UNKNOWN
        self._repeats = 0

    @property
    def last_number(self) -> int | None:
        """The number of the last accepted event; None before the first."""
        return self.next_number - 1 if self.next_number else None

    def add_frame(self, events: Sequence[events_pb2.Event]) -> int:
        """Advances past the events of one frame; reads only the first and the last of them.

        Returns how many events at the start were already accepted and must be skipped. Raises
        ProtocolError for a gap or a repeat.
        """
        # Reading any field of a message costs as much as a call: a frame with one event is read once.
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
        """Returns the cursor from which to continue."""
        self._repeats = 0
        if self.place is ReadPosition.PAUSED:
            # A watch from after a pause waits for the answer; from before it, the watch ends if there is no
            # answer.
            self._repeats = 1
            return self.next_number - 2
        return self.last_number

    def mark(self) -> tuple[int, ReadPosition]:
        """Returns the current position, for go_back."""
        return self.next_number, self.place

    def go_back(self, mark: tuple[int, ReadPosition]) -> None:
        """Returns to the mark; later events are read again."""
        self.next_number, self.place = mark
