"""What runs and their log amount to, in numbers. Looked at once for each commit, never for each event."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from portico.agent import Status
from portico.core.log.live_run import LiveRun
from portico.core.stores.ports.stores import Chunk, RunRecord
from portico.telemetry import meters

STATES = ("executing", "paused", "queued")
Taken = Sequence[tuple[LiveRun, Sequence[Chunk], Status, RunRecord | None]]


class RunMetrics:
    """The instruments of one engine. Labels are agents' names and words of ours: their number is bounded."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._ended: Counter[tuple[str, str]] = Counter()
        self._events = 0
        self._duration = meters.seconds(
            meter, "portico.run.duration", "From a run's acceptance to its end.", "agent", "status"
        )
        self._first = meters.seconds(
            meter,
            "portico.run.first_event.duration",
            "From a run's acceptance to what its agent first says.",
            "agent",
        )
        self._commit = meters.seconds(
            meter, "portico.log.commit.duration", "How long a transaction of the log takes."
        )

    @classmethod
    def wanted(cls) -> "RunMetrics | None":
        """None while nothing is measured."""
        meter = meters.meter()
        return None if meter is None else cls(meter)

    def watch(
        self,
        live: Callable[[], Mapping[str, int]],
        sandboxes: Callable[[], int],
        templates: Callable[[], int],
    ) -> None:
        """Ask these for what there is whenever somebody wants to know, in a thread: they must only look."""

        def runs(_: CallbackOptions) -> Iterable[Observation]:
            counted = live()
            return [Observation(counted.get(state, 0), {"state": state}) for state in STATES]

        def held(_: CallbackOptions) -> Iterable[Observation]:
            return [Observation(sandboxes())]

        def forked_from(_: CallbackOptions) -> Iterable[Observation]:
            return [Observation(templates())]

        self._meter.create_observable_counter(
            "portico.runs", [self._all_ended], "{run}", "Runs that have ended, by status."
        )
        self._meter.create_observable_counter(
            "portico.events", [self._all_events], "{event}", "Events in the log."
        )
        self._meter.create_observable_gauge(
            "portico.runs.live", [runs], "{run}", "Runs that have not ended; those queued wait for a session."
        )
        self._meter.create_observable_gauge("portico.sandboxes", [held], "{sandbox}", "Sandboxes that live.")
        self._meter.create_observable_gauge(
            "portico.sandbox.templates",
            [forked_from],
            "{template}",
            "Processes with mounts and preloaded modules that sandboxes are forked from.",
        )

    def committed(self, taken: Taken, seconds: float) -> None:
        """The log has these; call it before they are published."""
        self._commit.record(seconds)
        now = time.monotonic()
        events = 0
        for run, chunks, status, _ in taken:
            if not chunks:
                continue
            last = chunks[-1].last
            events += last - chunks[0].first + 1
            if run.said_from is not None and last >= run.said_from:
                run.said_from = None
                self._first.record(now - run.begun, run.start.request.agent_name)
            if status.terminal:
                about = (run.start.request.agent_name, status.value)
                self._ended[about] += 1
                self._duration.record(now - run.begun, *about)
        self._events += events

    def _all_ended(self, _: CallbackOptions) -> Iterable[Observation]:
        ended = tuple(self._ended.items())
        return [Observation(count, {"agent": agent, "status": status}) for (agent, status), count in ended]

    def _all_events(self, _: CallbackOptions) -> Iterable[Observation]:
        return [Observation(self._events)]


def states(executions: Iterable[tuple[bool, bool]]) -> Mapping[str, int]:
    """How many of each, of those that have started and those that are paused."""
    return Counter(
        "paused" if paused else "executing" if started else "queued" for started, paused in executions
    )
