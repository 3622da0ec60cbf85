"""The command line refuses an empty id before it calls a core."""

import pytest
from typer.testing import CliRunner

from portico.cli.main import app

NOWHERE = ("--core", "127.0.0.1:1")


@pytest.mark.parametrize(
    "command",
    [
        ("runs", "list", "--session-id", ""),
        ("runs", "list", "--user-id", ""),
        ("runs", "cancel", ""),
        ("runs", "delete", ""),
        ("sandbox", "list", "--user-id", ""),
        ("sandbox", "delete", ""),
        ("forget", "", "--yes"),
        ("chat", "--session-id", "", "--user-id", "ada", "-m", "hi"),
    ],
)
def test_an_empty_id_is_refused(command: tuple[str, ...]) -> None:
    result = CliRunner().invoke(app, [*command, *NOWHERE], env={"COLUMNS": "200"})
    assert result.exit_code == 1
    assert "must not be empty; omit it" in result.output
