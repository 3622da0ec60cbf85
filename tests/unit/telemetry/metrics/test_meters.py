"""Durations are exported as the SDK's histograms would be."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult, MetricsData
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from portico.telemetry.metrics import meters
from portico.telemetry.metrics.metric_readers import DurationReader, PeriodicReader
from portico.telemetry.setup import Telemetry

SCOPE = InstrumentationScope("portico", "1")
TOLD = [(0.0005, "a", 200), (0.001, "a", 200), (0.0011, "a", 404), (400.0, "b", 200)]


class Kept(MetricExporter):
    """Keeps the last exported data."""

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any) -> Any:
        self.data = metrics_data
        return MetricExportResult.SUCCESS

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        return True

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None: ...


@pytest.fixture
def exported() -> Iterator[Callable[[list[meters.Timing] | None], Any]]:
    """The exported data of the recorded durations, from Portico's histograms or the SDK's."""

    def told(timings: list[meters.Timing] | None) -> Any:
        kept = Kept()
        reader = PeriodicReader(kept, DurationReader(SCOPE, () if timings is None else timings))
        provider = MeterProvider([reader], shutdown_on_exit=False)
        meter = provider.get_meter(SCOPE.name, SCOPE.version)

        def one(_: CallbackOptions) -> list[Observation]:
            return [Observation(1)]

        meter.create_observable_gauge("there", [one])
        meters.use(meter, timings)
        duration = meters.seconds(meter, "took", "How long.", "who", "code")
        meters.seconds(meter, "never", "Nothing yet.")
        for seconds, who, code in TOLD:
            duration.record(seconds, who, code)
        provider.shutdown()
        (scope,) = kept.data.resource_metrics[0].scope_metrics
        assert {metric.name for metric in scope.metrics} == {"there", "took"}
        (took,) = [metric for metric in scope.metrics if metric.name == "took"]
        assert (took.unit, took.description) == ("s", "How long.")
        return took.data

    yield told
    meters.use(None)


def test_added_up_here_they_are_as_added_up_by_the_sdk(
    exported: Callable[[list[meters.Timing] | None], Any],
) -> None:
    ours, of_the_sdk = exported([]), exported(None)
    assert ours.aggregation_temporality == of_the_sdk.aggregation_temporality

    def points(data: Any) -> list[Any]:
        fields = ("attributes", "count", "sum", "min", "max", "bucket_counts", "explicit_bounds")
        return [
            {name: list(value) if isinstance(value, tuple | list) else value for name, value in point.items()}
            for point in ({name: getattr(one, name) for name in fields} for one in data.data_points)
        ]

    assert points(ours) == points(of_the_sdk)
    assert all(point.start_time_unix_nano <= point.time_unix_nano for point in ours.data_points)


@pytest.mark.parametrize(
    ("variable", "value", "here"),
    [
        ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "cumulative", True),
        ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "delta", False),
        (
            "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION",
            "base2_exponential_bucket_histogram",
            False,
        ),
    ],
)
def test_who_wants_other_histograms_gets_the_sdks(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, here: bool
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    monkeypatch.setenv(variable, value)
    monkeypatch.setattr("opentelemetry.metrics.set_meter_provider", lambda _: None)
    telemetry = Telemetry("test")
    meter = meters.meter()
    assert meter is not None
    assert isinstance(meters.seconds(meter, "took", "How long."), meters.Timing) is here
    monkeypatch.setattr("portico.telemetry.setup.CLOSE_SECONDS", 0.0)
    telemetry.close()
