"""Counters and gauges that are added up or looked at here, and told when somebody asks."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

from opentelemetry.metrics import CallbackOptions, Observation

from portico.telemetry.metrics import meters
from portico.telemetry.metrics.meters import Label

Looked: TypeAlias = Iterable[tuple[float, dict[str, Label]]]


class Counts:
    """A counter. It counts whether anybody measures or not, for the price of an addition."""

    def __init__(self, name: str, unit: str, description: str, *labels: str) -> None:
        self._labels = labels
        self._counted: Counter[tuple[Label, ...]] = Counter() if labels else Counter({(): 0})
        if (meter := meters.meter()) is not None:
            meter.create_observable_counter(name, [self._tell], unit, description)

    def add(self, *values: Label, number: int = 1) -> None:
        """`values` are of its labels, in their order, and few."""
        self._counted[values] += number

    def _tell(self, _: CallbackOptions) -> Iterable[Observation]:
        counted = tuple(self._counted.items())
        return [
            Observation(number, dict(zip(self._labels, values, strict=True))) for values, number in counted
        ]


def gauge(name: str, unit: str, description: str, look: Callable[[], Looked]) -> None:
    """Asks for the values, each with its labels, whenever somebody wants to know, in a thread: `look` must
    only look, and raise nothing."""
    meter = meters.meter()
    if meter is None:
        return

    def observe(_: CallbackOptions) -> Sequence[Observation]:
        return [Observation(value, labels) for value, labels in look()]

    meter.create_observable_gauge(name, [observe], unit, description)
