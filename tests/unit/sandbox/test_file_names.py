import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portico.sandbox.file_names import from_text, to_text


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (b"plain", "plain"),
        ("é中".encode(), "é中"),
        (b"a\xff", "a\U0010dcff"),
        (b"\xed\xb3\xbf", "\U0010dced\U0010dcb3\U0010dcbf"),
        ("\U0010dc80".encode(), "\U0010dcf4\U0010dc8d\U0010dcb2\U0010dc80"),
    ],
)
def test_a_byte_that_is_no_utf_8_is_a_character(name: bytes, text: str) -> None:
    assert to_text(os.fsdecode(name)) == text
    assert os.fsencode(from_text(text)) == name


@given(st.binary())
def test_each_name_has_a_text_of_its_own_that_can_be_encoded(name: bytes) -> None:
    text = to_text(os.fsdecode(name))
    text.encode()
    assert os.fsencode(from_text(text)) == name


@given(st.text())
def test_a_text_can_hide_no_separator_and_no_dot(text: str) -> None:
    name = os.fsencode(from_text(text))
    for byte in b"/.\0":
        assert name.count(byte) == text.count(chr(byte))
