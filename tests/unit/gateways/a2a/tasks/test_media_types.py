"""Media types with wildcards."""

import pytest
from a2a.types import a2a_pb2 as a2a

from portico.gateways.a2a.tasks.media_types import Modes, media_type_of


@pytest.mark.parametrize(
    ("modes", "media_type", "has"),
    [
        ([], "video/mp4", True),
        (["text/plain"], "text/plain", True),
        (["Text/Plain; charset=utf-8"], "text/PLAIN;format=flowed", True),
        (["text/plain"], "text/html", False),
        (["image/*"], "image/png", True),
        (["image/*"], "video/png", False),
        (["*/*"], "video/mp4", True),
        (["*"], "video/mp4", True),
        (["text"], "text/markdown", True),
        (["data"], "application/json", True),
        (["file"], "application/pdf", True),
        (["text/plain"], "", True),
    ],
)
def test_what_is_in(modes: list[str], media_type: str, has: bool) -> None:
    assert Modes(modes).has(media_type) is has


@pytest.mark.parametrize(
    ("one", "other", "meet"),
    [
        (["text/plain"], ["application/json", "text/plain"], True),
        (["text/plain"], ["application/json"], False),
        (["text/*"], ["text/plain"], True),
        (["image/*"], ["image/*"], True),
        (["image/*"], ["text/*"], False),
        (["*/*"], ["x/y"], True),
        ([], ["x/y"], True),
    ],
)
def test_what_meets(one: list[str], other: list[str], meet: bool) -> None:
    assert Modes(one).meets(Modes(other)) is meet
    assert Modes(other).meets(Modes(one)) is meet


def test_what_parts_are() -> None:
    assert media_type_of(a2a.Part(text="x")) == "text/plain"
    assert media_type_of(a2a.Part(text="x", media_type="text/html")) == "text/html"
    assert media_type_of(a2a.Part(data={"string_value": "x"})) == "application/json"
    assert media_type_of(a2a.Part(url="https://x")) == ""
