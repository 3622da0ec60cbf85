"""Converts output of untrusted code into text without effects on a terminal."""

import codecs
import re
from typing import Final

# Select Graphic Rendition (ECMA-48, 8.3.117): colours and other text attributes, the only sequences that
# pass.
_SGR: Final = r"\x1b\[[0-9;:]{0,64}m"
# Carriage returns stay, because progress bars need them; they move only within the line. C1 and DEL are
# treated like C0; the last ranges are Unicode's controls of the text direction.
_PIECES: Final = re.compile(rf"({_SGR})|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_BEGUN: Final = re.compile(r"\x1b(?:\[[0-9;:]{0,64})?\Z")  # may become an SGR with the next piece
RESET: Final = "\x1b[0m"


class Printable:
    """Converts one stream of bytes. Control characters are shown as hexadecimal escapes."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
        self._held = ""
        self._coloured = False

    def feed(self, data: bytes) -> str:
        """Returns printable text; an incomplete character or SGR sequence is kept for the next call."""
        text = self._held + self._decoder.decode(data)
        begun = _BEGUN.search(text)
        self._held = text[begun.start() :] if begun else ""
        return self._shown(text[: begun.start()] if begun else text)

    def end(self) -> str:
        """Returns the rest of the text, and a reset of colours if any were set."""
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
    """Converts complete bytes to printable text."""
    whole = Printable()
    return whole.feed(data) + whole.end()
