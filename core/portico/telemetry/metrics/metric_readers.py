"""Metric readers of the SDK that also read Portico's timings."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricExporter,
    MetricsData,
    PeriodicExportingMetricReader,
    ScopeMetrics,
)
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from portico.telemetry.metrics.meters import SECONDS, Timing

TIMEOUT_MILLIS = 10_000.0


class DurationReader:
    """Adds timings to the data that the SDK has collected."""

    def __init__(self, scope: InstrumentationScope, timings: Sequence[Timing]) -> None:
        """`timings` may grow later."""
        self._scope = scope
        self._timings = timings

    def beside(self, collected: MetricsData) -> MetricsData:
        """The collected data and the timings together."""
        metrics = [metric for timing in tuple(self._timings) for metric in _metric(timing)]
        if not metrics:
            return collected
        first, *more = collected.resource_metrics
        # A scope may appear only once: of two equal ones exporters would keep the last.
        ours = [scope for scope in first.scope_metrics if scope.scope == self._scope]
        rest = [scope for scope in first.scope_metrics if scope.scope != self._scope]
        metrics += [metric for scope in ours for metric in scope.metrics]
        scopes = [ScopeMetrics(self._scope, metrics, self._scope.schema_url or ""), *rest]
        return MetricsData([replace(first, scope_metrics=scopes), *more])


class PeriodicReader(PeriodicExportingMetricReader):
    """Exports metrics at intervals."""

    def __init__(self, exporter: MetricExporter, timings: DurationReader) -> None:
        self._timings = timings
        super().__init__(exporter)

    def _receive_metrics(
        self, metrics_data: MetricsData, timeout_millis: float = TIMEOUT_MILLIS, **kwargs: Any
    ) -> None:
        super()._receive_metrics(self._timings.beside(metrics_data), timeout_millis, **kwargs)


class PrometheusReader(PrometheusMetricReader):
    """Provides metrics to Prometheus on request."""

    def __init__(self, timings: DurationReader) -> None:
        self._timings = timings
        super().__init__()

    def _receive_metrics(
        self, metrics_data: MetricsData, timeout_millis: float = TIMEOUT_MILLIS, **kwargs: Any
    ) -> None:
        super()._receive_metrics(self._timings.beside(metrics_data), timeout_millis, **kwargs)


def _metric(timing: Timing) -> Iterator[Metric]:
    """The timing as a metric; nothing if it has no data yet."""
    now = time.time_ns()
    points = []
    for labels, series in timing.series():
        counts = tuple(series.counts)
        points.append(
            HistogramDataPoint(
                labels, series.since, now, sum(counts), series.sum, counts, SECONDS, series.least, series.most
            )
        )
    if points:
        yield Metric(
            timing.name, timing.description, "s", Histogram(points, AggregationTemporality.CUMULATIVE)
        )
