"""The process's meter and its histograms; without a meter nothing is measured."""

import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from opentelemetry.metrics import Meter

# Bucket bounds in seconds: from an immediate operation to an agent's long answer.
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)

Label = str | int


class Durations(Protocol):
    """A histogram of durations."""

    def record(self, seconds: float, *values: Label) -> None:
        """Records a duration for these label values, in the labels' order."""
        ...


@dataclass(slots=True)
class Series:
    """Histogram data for one set of label values."""

    since: int = field(default_factory=time.time_ns)
    counts: list[int] = field(default_factory=lambda: [0] * (len(SECONDS) + 1))
    sum: float = 0.0
    least: float = float("inf")
    most: float = 0.0


class Timing:
    """A histogram kept in this module, at a tenth of the SDK's cost. Record on one thread, read on any."""

    def __init__(self, name: str, description: str, labels: Sequence[str]) -> None:
        self.name = name
        self.description = description
        self.labels = labels
        self._series: dict[tuple[Label, ...], Series] = {}

    def record(self, seconds: float, *values: Label) -> None:
        series = self._series.get(values)
        if series is None:
            series = self._series[values] = Series()
        series.counts[bisect_left(SECONDS, seconds)] += 1
        series.sum += seconds
        if seconds < series.least:
            series.least = seconds
        if seconds > series.most:
            series.most = seconds

    def series(self) -> Iterator[tuple[dict[str, Label], Series]]:
        """All series with their labels."""
        for values, series in tuple(self._series.items()):
            yield dict(zip(self.labels, values, strict=True)), series


class _OfTheSdk:
    """A histogram of the SDK, for configurations with other buckets or delta temporality."""

    def __init__(self, meter: Meter, name: str, description: str, labels: Sequence[str]) -> None:
        self._labels = labels
        self._histogram = meter.create_histogram(
            name, "s", description, explicit_bucket_boundaries_advisory=SECONDS
        )

    def record(self, seconds: float, *values: Label) -> None:
        self._histogram.record(seconds, dict(zip(self._labels, values, strict=True)))


_meter: Meter | None = None
_timings: list[Timing] | None = None


def use(meter: Meter | None, timings: list[Timing] | None = None) -> None:
    """Sets the process's meter; None turns metrics off. With a list of timings, durations are Timings that
    are added to it; without one, they are histograms of the SDK."""
    global _meter, _timings
    _meter, _timings = meter, timings


def meter() -> Meter | None:
    """The process's meter; None while metrics are off."""
    return _meter


def seconds(meter: Meter, name: str, description: str, *labels: str) -> Durations:
    """Makes a histogram of durations in seconds."""
    if _timings is None:
        return _OfTheSdk(meter, name, description, labels)
    timing = Timing(name, description, labels)
    _timings.append(timing)
    return timing
