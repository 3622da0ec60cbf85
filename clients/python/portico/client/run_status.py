"""Sets of run statuses, and the names of the statuses that a run can have."""

from typing import Literal, TypeAlias

from portico.v1 import events_pb2

RunStatusName: TypeAlias = Literal[
    "created",
    "queued",
    "in_progress",
    "completed",
    "canceled",
    "failed",
    "rejected",
    "incomplete",
    "input_required",
]

TERMINAL_STATUSES = frozenset(
    (
        events_pb2.RUN_STATUS_COMPLETED,
        events_pb2.RUN_STATUS_CANCELED,
        events_pb2.RUN_STATUS_FAILED,
        events_pb2.RUN_STATUS_REJECTED,
        events_pb2.RUN_STATUS_INCOMPLETE,
    )
)
# The run has neither ended nor does it wait for input.
ACTIVE_STATUSES = frozenset(
    (
        events_pb2.RUN_STATUS_CREATED,
        events_pb2.RUN_STATUS_QUEUED,
        events_pb2.RUN_STATUS_IN_PROGRESS,
    )
)
