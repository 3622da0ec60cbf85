"""Metrics of runs and their log. Updated once for each commit, never for each event."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from portico.agent import Status
from portico.core.log.live_run import LiveRun
from portico.core.stores.ports.stores import Chunk, RunRecord
from portico.telemetry.metrics import meters

STATES = ("executing", "paused", "queued")
TakenChunks = Sequence[tuple[LiveRun, Sequence[Chunk], Status, RunRecord | None]]


class RunMetrics:
    """The instruments of one engine. Labels are agents' names and fixed words, so their number is bounded."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._ended: Counter[tuple[str, str]] = Counter()
        self._events = 0
        self._duration = meters.seconds(
            meter, "portico.run.duration", "Time from a run's acceptance to its end.", "agent", "status"
        )
        self._first = meters.seconds(
            meter,
            "portico.run.first_event.duration",
            "Time from a run's acceptance to the first event of its agent.",
            "agent",
        )
        self._commit = meters.seconds(
            meter, "portico.log.commit.duration", "Duration of a transaction of the log."
        )

    @classmethod
    def create_if_enabled(cls) -> "RunMetrics | None":
        """Create the instruments; None if metrics are off."""
        meter = meters.meter()
        return None if meter is None else cls(meter)

    def watch(
        self,
        live: Callable[[], Mapping[str, int]],
        sandboxes: Callable[[], int],
        templates: Callable[[], int],
    ) -> None:
        """Register the callbacks of gauges. Another thread calls them at each collection: they only read."""

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
            "portico.runs.live",
            [runs],
            "{run}",
            "Runs that have not ended; queued ones wait for their session or for a limit.",
        )
        self._meter.create_observable_gauge("portico.sandboxes", [held], "{sandbox}", "Sandboxes that exist.")
        self._meter.create_observable_gauge(
            "portico.sandbox.templates",
            [forked_from],
            "{template}",
            "Processes with mounts and preloaded modules from which sandboxes are forked.",
        )

    def record_commit(self, taken: TakenChunks, seconds: float) -> None:
        """Record a commit. Call it before the events are published."""
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


def count_states(executions: Iterable[tuple[bool, bool]]) -> Mapping[str, int]:
    """Count runs by state; each item is (started, paused)."""
    return Counter(
        "paused" if paused else "executing" if started else "queued" for started, paused in executions
    )
