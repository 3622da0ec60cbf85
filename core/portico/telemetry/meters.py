"""Metrics: none, until there is a meter."""

from opentelemetry.metrics import Histogram, Meter

# In seconds: from what a busy loop does at once to what an agent takes for a long answer.
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)

__all__ = ["Histogram", "meter", "seconds", "use"]

_meter: Meter | None = None


def use(meter: Meter | None) -> None:
    """Whom this process measures with from now on."""
    global _meter
    _meter = meter


def meter() -> Meter | None:
    """None while nothing is measured."""
    return _meter


def seconds(meter: Meter, name: str, description: str) -> Histogram:
    """A histogram of how long something takes."""
    return meter.create_histogram(name, "s", description, explicit_bucket_boundaries_advisory=SECONDS)
