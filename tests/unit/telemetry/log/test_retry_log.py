"""A lasting failure is logged when it begins, and then at growing intervals."""

import io
import itertools
import logging
import time

import pytest

from portico.telemetry.log import log_setup
from portico.telemetry.log.retry_log import PAUSES, RetryLog


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_the_pauses_between_lines_double_up_to_an_hour(clock: list[float]) -> None:
    told, rarely = [], RetryLog()
    for second in range(0, 36_000, 15):
        clock[0] = 1000.0 + second
        if rarely.due():
            told.append(second)
    pauses = [later - earlier for earlier, later in itertools.pairwise(told)]
    assert pauses[:7] == [60, 120, 240, 480, 960, 1920, 3600]
    assert set(pauses[7:]) == {3600}
    assert rarely.left_out == 36_000 // 15 - len(told)


def test_after_a_long_time_without_any_it_begins_anew(clock: list[float]) -> None:
    rarely = RetryLog()
    assert rarely.due()
    clock[0] += 3 * PAUSES[0]
    assert rarely.due()
    clock[0] += PAUSES[0]
    assert rarely.due()


def test_an_exporter_without_a_collector_fills_no_log(clock: list[float]) -> None:
    stream, root = io.StringIO(), logging.getLogger()
    before = root.handlers[:], root.level
    try:
        log_setup.configure(level="info", format="human", content=False, service="s", stream=stream)
        for _ in range(100):
            logging.getLogger("opentelemetry.exporter.otlp").warning("Transient error")
            logging.getLogger("others").warning("told each time")
    finally:
        root.handlers[:], root.level = before[0], before[1]
    assert stream.getvalue().count("Transient error") == 1
    assert stream.getvalue().count("told each time") == 100
