from typing import get_args

import pytest

from portico.client import run_status
from portico.model.run_status import TERMINAL_STATUSES, UNFINISHED_STATUSES, Status
from portico.v1 import events_pb2


def names(numbers: frozenset[events_pb2.RunStatus.ValueType]) -> set[str]:
    return {events_pb2.RunStatus.Name(number).removeprefix("RUN_STATUS_") for number in numbers}


def test_client_and_core_agree_on_the_terminal_statuses() -> None:
    assert names(run_status.TERMINAL_STATUSES) == {status.name for status in TERMINAL_STATUSES}


def test_an_active_run_is_unfinished_and_not_paused() -> None:
    expected = {status.name for status in UNFINISHED_STATUSES - {Status.INPUT_REQUIRED}}
    assert names(run_status.ACTIVE_STATUSES) == expected


def test_every_status_of_a_run_has_a_name_in_the_client() -> None:
    assert set(get_args(run_status.RunStatusName)) == TERMINAL_STATUSES | UNFINISHED_STATUSES


def test_a_status_is_terminal_or_unfinished_but_not_both() -> None:
    assert not TERMINAL_STATUSES & UNFINISHED_STATUSES
    assert set(Status) - TERMINAL_STATUSES - UNFINISHED_STATUSES == {Status.UNKNOWN}


@pytest.mark.parametrize("status", Status)
def test_a_status_says_whether_it_is_terminal(status: Status) -> None:
    assert status.terminal == (status in TERMINAL_STATUSES)
