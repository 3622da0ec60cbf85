"""Seconds since the epoch and google.protobuf.Timestamp."""

from google.protobuf.timestamp_pb2 import Timestamp

_MICROSECONDS = 1_000_000


def timestamp(seconds: float) -> Timestamp:
    """Whole microseconds, which a float of today still holds."""
    time = Timestamp()
    set_timestamp(time, seconds)
    return time


def set_timestamp(target: Timestamp, seconds: float) -> None:
    """The same in place, which is cheaper."""
    whole, micros = divmod(round(seconds * _MICROSECONDS), _MICROSECONDS)
    target.seconds = whole
    target.nanos = micros * 1000


def seconds(value: Timestamp) -> float:
    return value.seconds + value.nanos / 1e9
