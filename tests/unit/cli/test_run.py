"""The arguments that `portico run` passes to its core."""

import sys
from pathlib import Path

import pytest

from portico.cli.run import RunOptions, _core_command


@pytest.mark.parametrize(
    ("terminal", "reload", "shown"), [(True, False, True), (False, True, True), (False, False, False)]
)
def test_an_author_sees_the_words_of_exceptions(
    terminal: bool, reload: bool, shown: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    options = RunOptions("agent.py", "127.0.0.1", 8090, 50051, None, tmp_path, "", reload)
    assert ("--log-content" in _core_command(options, 50051, "unix:core.sock")) is shown
