import pytest

from portico.core.stores.words import query_words, text_words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        ("?! 「」", []),
        ("well-known FACTS", ["well", "known", "FACTS"]),
        ("猫", ["猫"]),
        ("黒猫", ["黒猫", "猫"]),
        ("東京タワー", ["東京", "京タ", "タワ", "ワー", "ー"]),
        ("Python入門", ["Python", "入門", "門"]),
        ("が\u306b", ["がに", "に"]),
        ("か\u3099に", ["がに", "に"]),
        ("ﾊﾝｶｸ", ["ハン", "ンカ", "カク", "ク"]),
        ("हिन्दी", ["हिन्दी"]),
    ],
)
def test_a_text_is_found_by_its_words_and_pairs(text: str, words: list[str]) -> None:
    assert text_words(text) == words


def test_a_query_has_each_word_once_and_single_characters_apart() -> None:
    assert query_words("猫 and 猫 and 東京") == (["and", "東京"], ["猫"])
