"""What holds for every test, and what more than one kind of them shares."""

import os
from collections.abc import Iterator

import pytest

# As in a core: what a test starts in a process of its own must not wake gRPC there, between fork and exec.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")


@pytest.fixture(scope="session")
def docker_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Docker engine that has the image, started when the first test asks for it."""
    from support.engines import shared_docker_engine

    folder = tmp_path_factory.getbasetemp()
    if hasattr(request.config, "workerinput"):
        folder = folder.parent  # what all workers of this run share
    with shared_docker_engine(folder) as url:
        yield url


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    untested = {
        str(report.longrepr[2])  # a skip is told as file, line and reason
        for report in terminalreporter.stats.get("skipped", [])
        if isinstance(report.longrepr, tuple) and "NOT TESTED" in str(report.longrepr[2])
    }
    for reason in sorted(untested):
        terminalreporter.write_line(reason.removeprefix("Skipped: "), red=True, bold=True)
