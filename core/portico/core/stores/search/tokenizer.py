"""Splits texts and queries into words for search, identically in every store.

A word is folded (case, accents, vowel points, forms of a letter), and an English word is
stemmed. A compound yields all its spellings: "follow-up" yields `follow`, `up` and
`followup`. Scripts without spaces between words yield overlapping pairs of characters.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain
from operator import add

from portico.core.stores.search.stemmer import stem
from portico.core.stores.search.stop_words import STOP_WORDS

MAX_TOKEN_CHARACTERS = 64  # characters; longer words are cut
MAX_QUERY_WORDS = 1024

# Han, Hiragana, Katakana, Hangul, Thai, Lao, Myanmar and Khmer are written without spaces between words, or
# with particles attached.
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u3130-\u318f\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\U00020000-\U0003ffff"
)
_PICTURES = "\u2600-\u27bf\u2b00-\u2bff\U0001f000-\U0001faff"
_FLAG = "[\U0001f1e6-\U0001f1ff]{2}"
_OTHER_LETTER = rf"[^\x00-/:-@\[-`{{-\x7f{_UNSPACED}{_PICTURES}]"  # or a digit, or a mark


def _pattern(letter: str, others: str) -> re.Pattern[str]:
    return re.compile(
        # Numbers in groups, such as dates and telephone numbers.
        rf"(?<!{letter})\d+(?:(?:[-./]|\)?[ ]\(?|\)|,(?=\d{{3}}(?!\d)))\d+)+(?!{letter})"
        rf"|[A-Za-z]\#(?!{letter})"
        rf"|{letter}+(?:\+\+|(?:[-_.&']{letter}+)*)"
        f"{others}",
        re.ASCII,
    )


_PART = _pattern("[A-Za-z0-9]", "")
_UNSPACED_RUN = f"[{_UNSPACED}]+"
_OTHER_PART = _pattern(_OTHER_LETTER, f"|{_UNSPACED_RUN}|{_FLAG}|[{_PICTURES}]")
UNSPACED_RUN = re.compile(_UNSPACED_RUN)
UNSPACED_OR_NOT = re.compile(f"[{_UNSPACED}]+|[^{_UNSPACED}]+")
_HUMPS = re.compile("[a-z][A-Z]|[A-Z]{2}[a-z]{2}")
_HUMP = re.compile("[A-Z]+(?=[A-Z][a-z]{2})|[A-Z]?[^A-Z]+|[A-Z]+")
_ENDING = re.compile("'(?:s|m|d|re|ve|ll)$", re.IGNORECASE)
_THOUSANDS = re.compile(r"\d{1,3}(?: \d{3})+")
_TELEPHONE = range(7, 16)  # digits
_NATIONAL = 9  # the last digits, which are the same with the prefixes +49, 0049 and 0

_LETTERS = {
    "ß": "ss",
    "ẞ": "SS",
    "æ": "ae",
    "Æ": "AE",
    "œ": "oe",
    "Œ": "OE",
    "ø": "o",
    "Ø": "O",
    "ł": "l",
    "Ł": "L",
    "đ": "d",
    "Đ": "D",
    "ð": "d",
    "Ð": "D",
    "þ": "th",
    "Þ": "TH",
    "ħ": "h",
    "Ħ": "H",
    "ı": "i",
    "\u0640": "",  # lengthens Arabic letters
    "\u2019": "'",
    "\u02bc": "'",
    "\u2010": "-",
}
_KATAKANA = range(0x30A1, 0x30F7)
_TO_HIRAGANA = 0x3041 - 0x30A1


class _Folded(dict[int, str]):
    """A table for str.translate that folds the characters of decomposed text."""

    def __missing__(self, code: int) -> str:
        return self.setdefault(code, _folded_letter(chr(code)))


def _folded_letter(letter: str) -> str:
    kind = unicodedata.category(letter)
    if letter in _LETTERS:
        return _LETTERS[letter]
    if letter.isascii() or re.match(f"[{_PICTURES}]", letter):
        return "" if "\U0001f3fb" <= letter <= "\U0001f3ff" else letter  # skin tone modifiers
    if kind == "Cf" or _is_accent(letter):
        return ""  # soft hyphens, joiners, zero-width spaces
    if kind == "Nd":
        return str(unicodedata.decimal(letter))
    if ord(letter) in _KATAKANA:
        return chr(ord(letter) + _TO_HIRAGANA)
    return letter if kind[0] in "LNM" else " "


def _is_accent(letter: str) -> bool:
    """Return whether a mark is ignored: an accent, a vowel point, or a variation selector.

    Vowel points are those of Hebrew, Arabic and Syriac. Marks of other scripts are parts of their words.
    """
    place = unicodedata.combining(letter)
    return 10 <= place <= 36 or place >= 200 or "\ufe00" <= letter <= "\ufe0f"


_FOLDED = _Folded()


def tokenize(text: str) -> list[str]:
    """Return the words of a text, in order and with repetitions."""
    return list(_words_of(text))


def count_tokens(text: str) -> Counter[str]:
    """Count the words of a text. It needs less memory than `tokenize`, since words repeat in long texts."""
    return Counter(_words_of(text))


def _words_of(text: str) -> Iterator[str]:
    return chain.from_iterable(map(_found_by, _parts(text)))


def tokenize_query(query: str) -> list[str]:
    """Return the words of a query, each once, without function words unless there are no others."""
    words: dict[str, None] = {}
    function_words: dict[str, None] = {}
    for part in _parts(query):
        for word in _pairs(part) if UNSPACED_RUN.match(part) else _words(part):
            (function_words if word in STOP_WORDS else words)[stem(word)] = None
    return list(words or function_words)[:MAX_QUERY_WORDS]


def _parts(text: str) -> list[str]:
    if text.isascii():
        return _PART.findall(text)
    text = unicodedata.normalize("NFC", unicodedata.normalize("NFKD", text).translate(_FOLDED))
    return _OTHER_PART.findall(text)


def _pairs(run: str) -> Iterable[str]:
    return map(add, run, run[1:]) if len(run) > 1 else run


def _found_by(part: str) -> Iterable[str]:
    return _kept(part) if len(part) <= MAX_TOKEN_CHARACTERS else _stems(part)


@lru_cache(1 << 15)  # most parts of a text are common ones
def _kept(part: str) -> Sequence[str]:
    return tuple(_stems(part))


def _stems(part: str) -> Iterable[str]:
    """Yield the words of a part; in scripts without spaces also single characters, for queries of one."""
    if not UNSPACED_RUN.match(part):
        return map(stem, _words(part))
    return chain(part, _pairs(part)) if len(part) > 1 else part


def _words(part: str) -> list[str]:
    """Return the words of a part with letters or digits, in all spellings. Case-folded, not stemmed."""
    if part[0].isdigit() and not part[-1].isalpha():
        words = list(_numbers(part))
    elif part.endswith(("+", "#")):
        words = [part] if len(part) <= len("C++") else [part, part.rstrip("+")]
    else:
        words = list(_compound(_ENDING.sub("", part)))
    return [word.casefold()[:MAX_TOKEN_CHARACTERS] for word in words]


def _numbers(part: str) -> Iterator[str]:
    """Yield the groups of digits, also joined if they are one number, a date or a telephone number."""
    part = part.replace(",", "")
    groups = re.findall(r"\d+", part)
    yield from groups
    joined = "".join(groups)
    spaced = re.split("[ ()]+", part)
    if len(spaced) > 1:
        yield from ("".join(re.findall(r"\d+", piece)) for piece in spaced if not piece.isdigit())
    if len(groups) > 1 and (len(spaced) == 1 or len(joined) in _TELEPHONE or _THOUSANDS.fullmatch(part)):
        yield joined
    if len(joined) in _TELEPHONE and len(joined) > _NATIONAL:
        yield joined[-_NATIONAL:]


def _compound(part: str) -> Iterator[str]:
    """Yield the words of a compound joined by punctuation or capitals, and the compound as one word."""
    pieces = re.split("[-_.&']", part)
    if len(pieces) == 2 and pieces[1].lower() == "t" and "'" in part:
        yield "".join(pieces)  # don't
        return
    for piece in pieces:
        humps = _HUMP.findall(piece) if len(piece) <= MAX_TOKEN_CHARACTERS and _HUMPS.search(piece) else []
        yield from humps
        yield piece
    if len(pieces) > 1:
        yield "".join(pieces)
