"""Words for search: the same for texts and queries, in every store."""

import re
import unicodedata
from collections.abc import Iterable

# Han, Hiragana, Katakana and Hangul are written without spaces between words, or with particles attached.
_SCRIPTS = (
    "\u1100-\u11ff\u3005-\u3007\u3040-\u30ff\u3130-\u318f\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\U00020000-\U0003ffff"
)
_RUN = re.compile(f"[{_SCRIPTS}]+")
_PART = re.compile(f"[{_SCRIPTS}]+|[^{_SCRIPTS}]+")


class _Separators(dict[int, int]):
    """For str.translate: what is no letter, digit or mark becomes a space."""

    def __missing__(self, code: int) -> int:
        kept = unicodedata.category(chr(code))[0] in "LNM"
        return self.setdefault(code, code if kept else 0x20)


_SEPARATORS = _Separators()


def text_words(text: str) -> list[str]:
    """What a text is found by: its words, and overlapping pairs where words are not told apart."""
    found: list[str] = []
    for part in _parts(text):
        if _RUN.match(part):
            found += _pairs(part)
            if len(part) > 1:
                # No pair begins with the last character; on its own it is found by a query of one.
                found.append(part[-1])
        else:
            found.append(part)
    return found


def query_words(query: str) -> tuple[list[str], list[str]]:
    """The words to look for, and the single characters to look for as the beginning of a word."""
    words: dict[str, None] = {}
    prefixes: dict[str, None] = {}
    for part in _parts(query):
        if not _RUN.match(part):
            words[part] = None
        elif len(part) == 1:
            prefixes[part] = None
        else:
            words.update(dict.fromkeys(_pairs(part)))
    return list(words), list(prefixes)


def _parts(text: str) -> Iterable[str]:
    for word in unicodedata.normalize("NFKC", text).translate(_SEPARATORS).split():
        if word.isascii():
            yield word
        else:
            yield from _PART.findall(word)


def _pairs(run: str) -> list[str]:
    return [run[place : place + 2] for place in range(max(len(run) - 1, 1))]
