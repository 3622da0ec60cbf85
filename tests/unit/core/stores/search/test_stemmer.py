"""The stems equal those of SQLite's implementation of the same algorithm."""

import sqlite3
from contextlib import closing
from pathlib import Path

from portico.core.stores.search.stemmer import stem

# Words for each rule, from Porter's paper.
RULES = (
    "caresses ponies ties caress cats agreed plastered bled motoring sing conflated troubled sized",
    "hopping tanned falling hissing fizzed failing filing happy sky relational conditional rational",
    "valenci hesitanci digitizer conformabli radicalli differentli vileli analogousli vietnamization",
    "predication operator feudalism decisiveness hopefulness callousness formaliti sensitiviti",
    "sensibiliti triplicate formative formalize electriciti electrical hopeful goodness revival",
    "allowance inference airliner gyroscopic adjustable defensible irritant replacement adjustment",
    "dependent adoption homologou communism activate angulariti homologous effective bowdlerize",
    "probate rate cease controll roll yes yesterday yelling buying dying geology a is by yy",
)


def test_stems_are_porters() -> None:
    repository = Path(__file__).parents[5]
    texts = [path.read_text() for path in (repository / "docs").rglob("*.md")]
    words = sorted(
        {
            word
            for text in (*texts, *RULES)
            for word in text.lower().split()
            if word.isascii() and word.isalpha()
        }
    )
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE VIRTUAL TABLE texts USING fts5(text, tokenize = 'porter ascii')")
        connection.execute("CREATE VIRTUAL TABLE stems USING fts5vocab(texts, instance)")
        connection.executemany("INSERT INTO texts (rowid, text) VALUES (?, ?)", enumerate(words))
        stems = dict(connection.execute("SELECT doc, term FROM stems").fetchall())
    assert len(words) > 1000
    assert {word: stem(word) for word in words} == {word: stems[place] for place, word in enumerate(words)}


def test_what_is_no_english_word_stays_as_it_is() -> None:
    for word in ("", "mp3s", "c++", "котики", "études", "猫"):
        assert stem(word) == word
