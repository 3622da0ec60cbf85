import pytest

from portico.core.stores.search.stop_words import STOP_WORDS
from portico.core.stores.search.tokenizer import MAX_TOKEN_CHARACTERS, tokenize, tokenize_query


def meet(one: str, other: str) -> bool:
    """Return whether a query of each finds a text of the other."""
    return all(
        set(tokenize_query(query)) & set(tokenize(text)) for query, text in ((one, other), (other, one))
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        ("?! 「」", []),
        ("well-known FACTS", ["well", "known", "wellknown", "fact"]),
        ("猫", ["猫"]),
        ("黒猫", ["黒", "猫", "黒猫"]),
        ("東京タワー", ["東", "京", "た", "わ", "ー", "東京", "京た", "たわ", "わー"]),
        ("Python入門", ["python", "入", "門", "入門"]),
        ("が\u306b", ["が", "に", "がに"]),
        ("か\u3099に", ["が", "に", "がに"]),
        ("ไทย", ["ไ", "ท", "ย", "ไท", "ทย"]),
        ("हिन्दी", ["हिन्दी"]),
        ("2 of 3", ["2", "of", "3"]),
        ("1,000,000", ["1000000"]),
        ("2024-05-17", ["2024", "05", "17", "20240517"]),
        ("camelCase", ["camel", "case", "camelcas"]),
        ("parseJSONFile2", ["pars", "json", "file2", "parsejsonfile2"]),
        ("URLs and IDs", ["url", "and", "id"]),
        ("Anna's", ["anna"]),
        ("don't", ["dont"]),
        ("C", ["c"]),
        ("C++ C# i++", ["c++", "c#", "i++"]),
        ("issue#12", ["issu", "12"]),
        ("👍🏽 👩‍💻", ["👍", "👩", "💻"]),
        ("a\x00b", ["a", "b"]),
    ],
)
def test_a_text_is_found_by_its_words_and_pairs(text: str, words: list[str]) -> None:
    assert tokenize(text) == words


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("hy\u00adphen", "hyphen"),
        ("long\u200bword", "longword"),
        ("\ufeffword", "word"),
        ("שָׁלוֹם", "שלום"),
        ("مُحَمَّد", "محمد"),
        ("محـــمد", "محمد"),
        ("أحمد", "احمد"),
        ("ёлка", "елка"),
        ("łódź", "Lodz"),
        ("Tromsø", "Tromso"),
        ("Straße", "STRASSE"),
        ("Æther", "aether"),
        ("İstanbul", "istanbul"),
        ("naïve", "naive"),
        ("ラーメン", "らーめん"),
        ("ﾗｰﾒﾝ", "ラーメン"),
        ("ภาษาไทย", "ภาษา"),
        ("ភាសាខ្មែរ", "ខ្មែរ"),
        ("ພາສາລາວ", "ລາວ"),
        ("吃北京烤鸭", "烤鸭"),
        ("한국어를", "한국어"),
        ("camelCase", "camelcase"),
        ("camelCase", "camel"),
        ("HTTPServer", "http server"),
        ("snake_case", "snakeCase"),
        ("follow-up", "followup"),
        ("follow-up", "follow up"),
        ("follow\u2010up", "followup"),
        ("e-mail", "email"),
        ("O\u2019Brien", "obrien"),
        ("don\u2019t", "dont"),
        ("U.S.A.", "USA"),
        ("R&D", "RD"),
        ("1,000", "1000"),
        ("1 000", "1000"),
        ("1\u202f000", "1.000"),
        ("1'000", "1000"),
        ("١٢٣", "123"),
        ("(555) 123-4567", "555-123-4567"),
        ("555.123.4567", "5551234567"),
        ("+1 555 123 4567", "(555) 123-4567"),
        ("+49 30 1234567", "030/1234567"),
        ("2024-05-17", "20240517"),
        ("C++", "c++17"),
        ("c#", "C#"),
        ("👍🏽", "👍"),
        ("❤️", "❤"),
        ("🇩🇪🇫🇷", "🇫🇷"),
        ("report_final-v2.pdf", "report"),
        ("report_final-v2.pdf", "report_final-v2"),
        ("src/portico/words.py", "words.py"),
        ("ada@example.org", "example.org"),
        ("ｆｕｌｌ", "full"),
        ("ﬁne", "fine"),
        ("run", "running"),
    ],
)
def test_forms_of_a_word_meet(one: str, other: str) -> None:
    assert meet(one, other)


@pytest.mark.parametrize("letter", "我喜欢")
def test_a_single_character_is_found_in_what_has_no_spaces(letter: str) -> None:
    assert set(tokenize_query(letter)) <= set(tokenize("我喜欢"))


@pytest.mark.parametrize(
    ("one", "other"),
    [("C++", "C"), ("C#", "C++"), ("👍", "👎"), ("🇩🇪", "🇫🇷"), ("हिन्दी", "हिन्दू"), ("の", "は")],
)
def test_other_words_do_not_meet(one: str, other: str) -> None:
    assert not meet(one, other)


def test_a_query_has_each_word_once_without_function_words() -> None:
    assert tokenize_query("猫 and 猫 and 東京") == ["猫", "東京"]
    assert tokenize_query("Which penguins did you see, and where are THE penguins?") == ["penguin", "see"]
    assert tokenize_query("To be or not to be") == ["to", "be", "or", "not"]
    assert tokenize_query("What's it about?") == ["what", "it", "about"]
    assert len(STOP_WORDS) > 110


def test_what_is_long_is_cut_for_texts_and_queries_alike() -> None:
    long = "x" * 100_000
    assert tokenize(long) == tokenize_query(long) == ["x" * MAX_TOKEN_CHARACTERS]
    assert len(tokenize_query(" ".join(f"w{number}" for number in range(5000)))) == 1024


@pytest.mark.parametrize("unit", ["1 ", "1-", "a-", "1)", "aB", "a'", "1,000,", "ा", "猫", "#", "a+"])
def test_no_text_takes_more_than_its_length(unit: str) -> None:
    assert len(tokenize(unit * 20_000)) <= 60_002
