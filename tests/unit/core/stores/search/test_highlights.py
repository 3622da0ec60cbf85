import pytest

from portico.core.stores.search.highlights import MAX_SCANNED_CHARACTERS, highlights


def shown(text: str, query: str) -> list[str]:
    """The pieces, with the matching words in brackets."""
    found = []
    for piece, ranges in highlights(text, query):
        told, place = "", 0
        for start, end in ranges:
            assert place <= start < end <= len(piece)
            told += f"{piece[place:start]}[{piece[start:end]}]"
            place = end
        found.append(told + piece[place:])
    return found


@pytest.mark.parametrize(
    ("text", "query", "told"),
    [
        ("The penguin eats herring.", "penguins", "The [penguin] eats herring."),
        ("Penguins! PENGUIN?", "penguin", "[Penguins]! [PENGUIN]?"),
        ("a naïve Ångström", "naive angstrom", "a [naïve] [Ångström]"),
        ("企鹅吃鲱鱼", "鲱鱼", "企鹅吃[鲱鱼]"),
        ("企鹅吃鲱鱼", "吃", "企鹅[吃]鲱鱼"),
        ("<b>penguin</b> & <script>", "penguin", "<b>[penguin]</b> & <script>"),
        ("(follow-up), soon", "followup", "([follow-up]), soon"),
        ("a follow-up", "follow", "a [follow]-up"),
        ("pen\u00adguin here", "penguin", "[pen\u00adguin] here"),
        ("in C++ and C", "c++", "in [C++] and C"),
    ],
)
def test_the_words_that_a_search_finds_are_highlighted(text: str, query: str, told: str) -> None:
    assert shown(text, query) == [told]


@pytest.mark.parametrize(("text", "query"), [("", "x"), ("a penguin", ""), ("a penguin", "!?"), (" ", "x")])
def test_without_such_words_nothing_is(text: str, query: str) -> None:
    assert highlights(text, query) == []


def test_a_long_text_is_shown_in_three_pieces_at_most() -> None:
    filler = "lorem ipsum " * 40
    pieces = shown(f"{filler}one penguin {filler}" * 5, "penguin")
    assert len(pieces) == 3
    for piece in pieces:
        assert piece.count("[penguin]") == 1
        assert len(piece) < 250


def test_words_are_whole_where_there_are_spaces_near() -> None:
    (piece,) = shown("lorem ipsum dolor " * 20 + "penguin " + "sit amet " * 40, "penguin")
    words = set(piece.replace("[", "").replace("]", "").split())
    assert words <= {"lorem", "ipsum", "dolor", "penguin", "sit", "amet"}


def test_many_words_of_one_piece_are_all_highlighted() -> None:
    (first, *_) = highlights("penguin " * 1000, "penguin")
    assert len(first.ranges) == len(first.text.split())


def test_what_is_far_behind_is_not_looked_at() -> None:
    assert highlights("x " * MAX_SCANNED_CHARACTERS + "penguin", "penguin") == []


@pytest.mark.parametrize(
    "text",
    ["x" * 100_000, "企" * 100_000, "penguin" * 20_000, "\u0301" * 10_000, "🎉" * 10_000, "-" * 10_000],
)
def test_texts_without_spaces_are_shown_too(text: str) -> None:
    for piece, ranges in highlights(text, f"penguin {text[:300]}"):
        assert len(piece) <= 300
        assert all(0 <= start < end <= len(piece) for start, end in ranges)
