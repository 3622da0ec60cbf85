"""Converts between seconds since the epoch and google.protobuf.Timestamp."""

from google.protobuf.timestamp_pb2 import Timestamp

_MICROSECONDS = 1_000_000


def timestamp(seconds: float) -> Timestamp:
    """Makes a timestamp in whole microseconds, the precision of a float of the current time."""
    time = Timestamp()
    set_timestamp(time, seconds)
    return time


def set_timestamp(target: Timestamp, seconds: float) -> None:
    """Sets a timestamp in place, which is cheaper than a new one."""
    whole, micros = divmod(round(seconds * _MICROSECONDS), _MICROSECONDS)
    target.seconds = whole
    target.nanos = micros * 1000


def seconds(value: Timestamp) -> float:
    return value.seconds + value.nanos / 1e9
