"""The tests of runs, with agents in worker processes."""

from collections.abc import Iterator

import pytest
from end_to_end import test_runs
from support.deployment import SCRIPTED, Deployment

# These concern readers and gateways, and take long.
ELSEWHERE = (
    "test_a_slow_reader_harms_nobody_and_gets_everything",
    "test_a_foreground_run_that_nobody_reads_is_cancelled",
    "test_a_thousand_anonymous_requests_at_once",
)
globals().update(
    {
        name: test
        for name, test in vars(test_runs).items()
        if name.startswith("test_") and name not in ELSEWHERE
    }
)


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    started = Deployment(SCRIPTED, tmp_path_factory.mktemp("apart"), env={"SCRIPTED_ISOLATION": "process"})
    yield started
    started.stop()
