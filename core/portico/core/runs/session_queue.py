"""Session queue: runs of a session execute one at a time, in order, unless their policy is "parallel"."""

from collections import deque
from dataclasses import dataclass, field

from portico.core.log.live_run import LiveRun


@dataclass(slots=True)
class _Session:
    active: list[LiveRun] = field(default_factory=list)
    waiting: deque[LiveRun] = field(default_factory=deque)


class SessionQueue:
    """The executing and the queued runs of each (user_id, session_id). Owned by the engine."""

    def __init__(self) -> None:
        self._lanes: dict[tuple[str, str], _Session] = {}

    def active(self, session: tuple[str, str]) -> list[LiveRun]:
        """The executing runs of the session."""
        lane = self._lanes.get(session)
        return list(lane.active) if lane is not None else []

    def blocking_run(self, session: tuple[str, str]) -> LiveRun | None:
        """The first executing run of the session, else the first queued one, else None."""
        lane = self._lanes.get(session)
        if lane is None:
            return None
        return lane.active[0] if lane.active else lane.waiting[0] if lane.waiting else None

    def has_other_run(self, session: tuple[str, str], run_id: str) -> bool:
        """Whether the session has a live run other than this one."""
        lane = self._lanes.get(session)
        return lane is not None and any(run.run_id != run_id for run in (*lane.active, *lane.waiting))

    def enter(self, run: LiveRun) -> None:
        """Record that the run executes."""
        self._lanes.setdefault(run.session, _Session()).active.append(run)

    def enqueue(self, run: LiveRun) -> None:
        """Queue the run behind the session's other runs."""
        self._lanes.setdefault(run.session, _Session()).waiting.append(run)

    def release(self, run: LiveRun) -> LiveRun | None:
        """Remove a run that has ended or is no longer queued. Returns the next run, marked as executing."""
        lane = self._lanes[run.session]
        if run in lane.active:
            lane.active.remove(run)
        else:
            lane.waiting.remove(run)
        following = None
        if not lane.active and lane.waiting:
            following = lane.waiting.popleft()
            lane.active.append(following)
        if not lane.active:
            del self._lanes[run.session]
        return following
