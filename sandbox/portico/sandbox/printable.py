"""Turns output of code inside into text that does not act on a terminal."""

import codecs
import re
from typing import Final

# Select Graphic Rendition (ECMA-48, 8.3.117): colours and the like, which is all that may pass.
_SGR: Final = r"\x1b\[[0-9;:]{0,64}m"
# Carriage returns move within the line, as progress bars need. C1 and DEL count as C0 does; the last are
# Unicode's, which turn the direction of a line.
_PIECES: Final = re.compile(rf"({_SGR})|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_BEGUN: Final = re.compile(r"\x1b(?:\[[0-9;:]{0,64})?\Z")  # what may become an SGR with the next piece
RESET: Final = "\x1b[0m"


class Printable:
    r"""Makes one stream of bytes harmless text. Other control characters are shown by their number: \x1b."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
        self._held = ""
        self._coloured = False

    def feed(self, data: bytes) -> str:
        """The text so far; what may be half of a character or of a colour is kept for the next time."""
        text = self._held + self._decoder.decode(data)
        begun = _BEGUN.search(text)
        self._held = text[begun.start() :] if begun else ""
        return self._shown(text[: begun.start()] if begun else text)

    def end(self) -> str:
        """The rest of the text, and a reset of colours if any were set."""
        text = self._shown(self._held + self._decoder.decode(b"", final=True))
        self._held = ""
        return text + RESET if self._coloured else text

    def _shown(self, text: str) -> str:
        return text if text.isprintable() else _PIECES.sub(self._piece, text)

    def _piece(self, found: re.Match[str]) -> str:
        if found[1]:
            self._coloured = True
            return found[1]
        code = ord(found[0])
        return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def printable(data: bytes) -> str:
    """Of bytes that are all there."""
    whole = Printable()
    return whole.feed(data) + whole.end()
