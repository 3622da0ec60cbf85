"""Compression makes stored rows smaller where it helps, and reading returns the original."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portico.core.stores.sql.compression import (
    LARGE_BYTES,
    MIN_PACKED_BYTES,
    compress,
    compress_with_references,
    decode_text,
    decompress,
    encode_plain,
    encode_text,
)

WORDS = b"the lamp on the table is lit and nobody reads " * 80


@given(st.binary(max_size=50) | st.binary(max_size=50).map(lambda data: data * 200))
def test_data_is_read_as_it_was_stored_packed_or_not(data: bytes) -> None:
    stored = encode_plain(data)
    assert decompress(stored) == data
    less = compress(stored)
    assert less is None or (decompress(less), compress(less), len(less) < len(stored)) == (data, None, True)


def test_what_is_small_or_would_stay_as_large_is_left() -> None:
    noise = random.Random(1).randbytes(MIN_PACKED_BYTES * 4)
    assert compress(encode_plain(noise)) is None
    assert compress(WORDS[: MIN_PACKED_BYTES - 1]) is None
    assert compress(WORDS) is not None


@settings(max_examples=200, deadline=None)
@given(
    st.integers(0, 1000),
    st.lists(st.sampled_from([0, 1, 7, 5000, 70_000]), min_size=3, max_size=3),
    st.booleans(),
)
def test_what_repeats_earlier_rows_refers_to_them(seed: int, sizes: list[int], repetitive: bool) -> None:
    """Rows that repeat a text, each with one more around it, like the events that end a message and a run."""
    chance = random.Random(seed)
    texts = [b"ab" * (size // 2) if repetitive else chance.randbytes(size) for size in sizes]
    rows = {number: b"\x0ahead" + text + b"tail" for number, text in enumerate(texts)}
    whole = b"\x0a" + b"between".join(texts) + b"end"
    stored = compress_with_references(whole, list(rows.items()))
    if stored is None:
        stored = encode_plain(whole)
    assert decompress(stored, rows.__getitem__) == whole
    less = compress(stored)
    assert less is None or decompress(less, rows.__getitem__) == whole
    if not repetitive:
        assert len(stored) < len(whole) - sum(size for size in sizes if size >= 5000) + 200


def test_a_repeated_text_is_there_once() -> None:
    text = random.Random(2).randbytes(1_000_000)
    delta, message = b"\x0a" + b"d" * 60_000 + text + b"!", b"\x0ahead" + text + b"tail"
    stored = compress_with_references(message, [(0, delta)])
    assert stored is not None
    assert len(stored) < 100
    assert decompress(stored, {0: delta}.__getitem__) == message
    assert compress_with_references(random.Random(3).randbytes(LARGE_BYTES), [(0, delta)]) is None


def test_a_form_of_a_later_release_is_refused() -> None:
    with pytest.raises(ValueError, match="does not support"):
        decompress(b"\x00data")


@pytest.mark.parametrize("text", ["", "x", "häl\nlo", "häl\nlo " * 1000])
def test_a_text_is_found_in_its_payload(text: str) -> None:
    payload = b"\x0a before " + text.encode() + b" behind"
    stored = encode_text(text, payload)
    assert isinstance(stored, bytes) == (len(payload) > 4096)
    for kept in (payload, compress(payload) or payload):
        assert decode_text(stored, kept) == text
    assert encode_text(text, b"\x0a" + b"?" * 5000) == (text or encode_text("", b"\x0a" + b"?" * 5000))
