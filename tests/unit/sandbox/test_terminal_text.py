"""Output of code inside on a terminal: control sequences are shown as text, colours pass."""

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portico.sandbox.terminal_text import RESET, Printable, printable
from portico.telemetry.log.terminal_text import escape_control_characters

PASSED = re.compile(r"\x1b\[[0-9;:]*m|[\t\n\r]")


def acts(text: str) -> list[str]:
    """The characters with an effect on a terminal, except colours."""
    return [one for one in PASSED.sub("", text) if unicodedata.category(one) == "Cc" or one == "\u202e"]


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (b"\x1b]52;c;aGk=\x07", "\\x1b]52;c;aGk=\\x07"),
        (b"\x1b]0;title\x1b\\", "\\x1b]0;title\\x1b\\"),
        (b"\x1b[2J\x1b[H", "\\x1b[2J\\x1b[H"),
        (b"\x1bc\x1bP+q\x1b\\", "\\x1bc\\x1bP+q\\x1b\\"),
        (b"\xc2\x9b2J\x9b", "\\x9b2J\\x9b"),
        (b"\x1b[?1049h\x1b[6n\x1b[5i", "\\x1b[?1049h\\x1b[6n\\x1b[5i"),
        (b"a\x08\x7f\x00", "a\\x08\\x7f\\x00"),
        ("\u202eabc".encode(), "\\u202eabc"),
        (b"1 %\r2 %\t\n", "1 %\r2 %\t\n"),
        ("größe 東".encode(), "größe 東"),
        (b"\xff\xfe", "\\xff\\xfe"),
        (b"\x1b[1;31mred\x1b[0m", "\x1b[1;31mred\x1b[0m" + RESET),
        (b"\x1b[" + b"1" * 100 + b"m", "\\x1b[" + "1" * 100 + "m"),
        (b"\x1b[38;5", "\\x1b[38;5"),
    ],
)
def test_what_acts_is_shown_by_number(said: bytes, shown: str) -> None:
    assert printable(said) == shown


@given(st.lists(st.one_of(st.binary(max_size=9), st.sampled_from([b"\x1b", b"[", b"31", b";", b"m", b"]"]))))
def test_pieces_make_no_difference_and_nothing_acts(pieces: list[bytes]) -> None:
    one = Printable()
    text = "".join([one.feed(piece) for piece in pieces]) + one.end()
    assert text == printable(b"".join(pieces))
    assert acts(text) == []


def test_the_command_line_and_logs_write_out_the_same_characters() -> None:
    # Sandbox and telemetry do not import each other, so each has its own set.
    others = (
        chr(code) for code in range(0x3000) if chr(code) != "\r"
    )  # moves within a line of a sandbox's output
    for character in others:
        assert printable(character.encode()) == escape_control_characters(character)
