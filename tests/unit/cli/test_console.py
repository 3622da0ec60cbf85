"""Untrusted text on the command line's console: neither markup nor control characters."""

import io

from rich.table import Table
from rich.text import Text

from portico.cli.console import Console

HOSTILE = "\x1b]52;c;aGk=\x07\x1b[2J\x9b5i\u202e[link=file:///x]here[/link][/bold] :warning:"


def shown(*what: object, **options: object) -> str:
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, color_system="standard", width=200)
    console.print(*what, **options)  # type: ignore[arg-type]
    return file.getvalue()


def test_text_tables_and_json_do_not_act_on_the_terminal() -> None:
    table = Table("name", box=None)
    table.add_row(HOSTILE)
    for text in (shown(HOSTILE), shown(Text(HOSTILE)), shown(table), shown(HOSTILE, style="red")):
        assert "\x1b]" not in text
        assert "\x1b[2J" not in text
        assert "\x9b" not in text
        assert "\u202e" not in text
        assert "\\x1b]52;c;aGk=" in text
        assert "[link=file:///x]here[/link][/bold] :warning:" in text


def test_styles_of_our_own_stay() -> None:
    assert shown("no", style="red") == "\x1b[31mno\x1b[0m\n"
