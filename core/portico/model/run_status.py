"""The status of a run, and which statuses are final."""

from enum import StrEnum


class Status(StrEnum):
    """The state of a run, a message or a content."""

    CREATED = "created"
    QUEUED = "queued"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    CANCELED = "canceled"
    FAILED = "failed"
    REJECTED = "rejected"
    INCOMPLETE = "incomplete"
    UNKNOWN = "unknown"
    INPUT_REQUIRED = "input_required"

    @property
    def terminal(self) -> bool:
        """Whether a run with this status has ended."""
        return self in TERMINAL_STATUSES


# UNKNOWN is in neither: no run has it.
TERMINAL_STATUSES = frozenset(
    (Status.COMPLETED, Status.CANCELED, Status.FAILED, Status.REJECTED, Status.INCOMPLETE)
)
UNFINISHED_STATUSES = frozenset((Status.CREATED, Status.QUEUED, Status.IN_PROGRESS, Status.INPUT_REQUIRED))
