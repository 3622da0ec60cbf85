"""Counters and gauges with values in this process, which metric readers fetch on demand."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

from opentelemetry.metrics import CallbackOptions, Observation

from portico.telemetry.metrics import meters
from portico.telemetry.metrics.meters import Label

Looked: TypeAlias = Iterable[tuple[float, dict[str, Label]]]


class Counters:
    """A counter. It always counts, also while metrics are off: an addition is cheap."""

    def __init__(self, name: str, unit: str, description: str, *labels: str) -> None:
        self._labels = labels
        self._counted: Counter[tuple[Label, ...]] = Counter() if labels else Counter({(): 0})
        if (meter := meters.meter()) is not None:
            meter.create_observable_counter(name, [self._tell], unit, description)

    def add(self, *values: Label, number: int = 1) -> None:
        """Adds to the count for these label values, in the labels' order; use few different values."""
        self._counted[values] += number

    def _tell(self, _: CallbackOptions) -> Iterable[Observation]:
        counted = tuple(self._counted.items())
        return [
            Observation(number, dict(zip(self._labels, values, strict=True))) for values, number in counted
        ]


def gauge(name: str, unit: str, description: str, look: Callable[[], Looked]) -> None:
    """Registers a gauge. A metric reader calls `look` in a thread for the values and their labels; `look`
    must have no side effects and must not raise."""
    meter = meters.meter()
    if meter is None:
        return

    def observe(_: CallbackOptions) -> Sequence[Observation]:
        return [Observation(value, labels) for value, labels in look()]

    meter.create_observable_gauge(name, [observe], unit, description)
