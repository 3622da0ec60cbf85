"""Stems English words with Porter's algorithm (1980), so that a search finds all forms of a word."""

import re
from functools import lru_cache

_STEMS = 1 << 15  # size of the cache; most words of a text are common words

_CONSONANTS = "[^aeiou][^aeiouy]*"
_VOWELS = "[aeiouy][aeiou]*"
# A stem's measure is the number of consonant sequences that follow a vowel in it.
_MEASURED = re.compile(f"^({_CONSONANTS})?{_VOWELS}{_CONSONANTS}")
_MEASURED_ONE = re.compile(f"^({_CONSONANTS})?{_VOWELS}{_CONSONANTS}({_VOWELS})?$")
_MEASURED_MORE = re.compile(f"^({_CONSONANTS})?{_VOWELS}{_CONSONANTS}{_VOWELS}{_CONSONANTS}")
_HAS_VOWEL = re.compile(f"^({_CONSONANTS})?[aeiouy]")
_SHORT = re.compile(f"^{_CONSONANTS}[aeiouy][^aeiouwxy]$")

_PLURAL = re.compile("^(.+?(?:ss|i))es$|^(.+?[^s])s$")
_PAST = re.compile("^(.+?)(?:ed|ing)$")
_DOUBLE = re.compile(r"([^aeiouylsz])\1$")
_SECOND = {
    "ational": "ate",
    "tional": "tion",
    "enci": "ence",
    "anci": "ance",
    "izer": "ize",
    "bli": "ble",
    "alli": "al",
    "entli": "ent",
    "eli": "e",
    "ousli": "ous",
    "ization": "ize",
    "ation": "ate",
    "ator": "ate",
    "alism": "al",
    "iveness": "ive",
    "fulness": "ful",
    "ousness": "ous",
    "aliti": "al",
    "iviti": "ive",
    "biliti": "ble",
    "logi": "log",
}
_THIRD = {"icate": "ic", "ative": "", "alize": "al", "iciti": "ic", "ical": "ic", "ful": "", "ness": ""}
_FOURTH = re.compile(
    "^(.+?)(?:al|ance|ence|er|ic|able|ible|ant|ement|ment|ent|ou|ism|ate|iti|ous|ive|ize|(?<=[st])ion)$"
)


@lru_cache(_STEMS)
def stem(word: str) -> str:
    """Return the stem of a lower-case word. A word with other characters than a-z is its own stem."""
    if len(word) < 3 or not (word.isascii() and word.isalpha()):
        return word
    # A y at the beginning of a word is a consonant.
    first_y = word[0] == "y"
    word = f"Y{word[1:]}" if first_y else word
    word = _without_tense(_singular(word))
    if word.endswith("y") and _HAS_VOWEL.match(word[:-1]):
        word = f"{word[:-1]}i"
    word = _shorter(_shorter(word, _ENDINGS_2, _SECOND), _ENDINGS_3, _THIRD)
    found = _FOURTH.match(word)
    if found and _MEASURED_MORE.match(found[1]):
        word = found[1]
    word = _tidy(word)
    return f"y{word[1:]}" if first_y else word


def _singular(word: str) -> str:
    found = _PLURAL.match(word)
    return word if found is None else found[1] or found[2]


def _without_tense(word: str) -> str:
    if word.endswith("eed"):
        return word[:-1] if _MEASURED.match(word[:-3]) else word
    found = _PAST.match(word)
    if found is None or not _HAS_VOWEL.match(found[1]):
        return word
    word = found[1]
    if word.endswith(("at", "bl", "iz")) or (not _DOUBLE.search(word) and _SHORT.match(word)):
        return f"{word}e"
    return word[:-1] if _DOUBLE.search(word) else word


def _pattern(endings: dict[str, str]) -> re.Pattern[str]:
    return re.compile(f"^(.+?)({'|'.join(endings)})$")


_ENDINGS_2 = _pattern(_SECOND)
_ENDINGS_3 = _pattern(_THIRD)


def _shorter(word: str, pattern: re.Pattern[str], endings: dict[str, str]) -> str:
    found = pattern.match(word)
    return found[1] + endings[found[2]] if found and _MEASURED.match(found[1]) else word


def _tidy(word: str) -> str:
    if word.endswith("e"):
        bare = word[:-1]
        if _MEASURED_MORE.match(bare) or (_MEASURED_ONE.match(bare) and not _SHORT.match(bare)):
            word = bare
    return word[:-1] if word.endswith("ll") and _MEASURED_MORE.match(word) else word
