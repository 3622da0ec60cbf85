"""Reads the metrics of this process in a test."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from portico.telemetry.metrics import meters

Read = Callable[[], dict[str, dict[str, float]]]


@contextmanager
def measuring() -> Iterator[Read]:
    """Enables metrics for objects created in the block; a call returns counters and gauges by name and
    labels.
    """
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    meters.use(provider.get_meter("portico"), [])

    def read() -> dict[str, dict[str, float]]:
        data = reader.get_metrics_data()
        found: dict[str, dict[str, float]] = {}
        for scope in data.resource_metrics[0].scope_metrics if data is not None else ():
            for metric in scope.metrics:
                points: Any = metric.data.data_points
                found[metric.name] = {
                    ",".join(map(str, (point.attributes or {}).values())): point.value for point in points
                }
        return found

    try:
        yield read
    finally:
        meters.use(None)
        provider.shutdown()
