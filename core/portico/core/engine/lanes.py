"""Who may run now in a session: one at a time, in order, unless a run asked to be beside the others."""

from collections import deque
from dataclasses import dataclass, field

from portico.core.log.live_run import LiveRun


@dataclass(slots=True)
class _Lane:
    active: list[LiveRun] = field(default_factory=list)
    waiting: deque[LiveRun] = field(default_factory=deque)


class SessionLanes:
    """The live and the waiting runs of each (user_id, session_id). Owned by the engine."""

    def __init__(self) -> None:
        self._lanes: dict[tuple[str, str], _Lane] = {}

    def active(self, session: tuple[str, str]) -> list[LiveRun]:
        """The runs that execute in the session."""
        lane = self._lanes.get(session)
        return list(lane.active) if lane is not None else []

    def busy(self, session: tuple[str, str]) -> LiveRun | None:
        """A run that is in the way of another."""
        lane = self._lanes.get(session)
        if lane is None:
            return None
        return lane.active[0] if lane.active else lane.waiting[0] if lane.waiting else None

    def others(self, session: tuple[str, str], run_id: str) -> bool:
        """Whether another run than this one is live in the session."""
        lane = self._lanes.get(session)
        return lane is not None and any(run.run_id != run_id for run in (*lane.active, *lane.waiting))

    def enter(self, run: LiveRun) -> None:
        """The run executes."""
        self._lanes.setdefault(run.session, _Lane()).active.append(run)

    def wait(self, run: LiveRun) -> None:
        """The run executes once those before it have left."""
        self._lanes.setdefault(run.session, _Lane()).waiting.append(run)

    def leave(self, run: LiveRun) -> LiveRun | None:
        """The run has ended, or waits no longer. Returns the next, which has entered."""
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
