"""Converts file names to text that every encoding can carry.

A file name is a sequence of bytes. In this library it is a string as from os.fsdecode: a byte that is not
UTF-8 becomes a lone surrogate, which neither protobuf nor JSON in UTF-8 can carry. As text, such a byte
becomes a character of the last private-use plane, U+10DC00 plus the byte's value. If a name contains a
character of that block, its four UTF-8 bytes are converted in the same way, so the conversion is reversible:
each name has one text, and each text means one name.
"""

from typing import Final

_FIRST: Final = 0x10DC80
_LAST: Final = 0x10DCFF
_PLANE: Final = 0x100000  # distance from a lone surrogate to its character
_TO_NAME: Final = {number: number - _PLANE for number in range(_FIRST, _LAST + 1)}
_TO_TEXT: Final[dict[int, int | str]] = {
    **{number - _PLANE: number for number in range(_FIRST, _LAST + 1)},
    **{
        number: "".join(chr(0x10DC00 + byte) for byte in chr(number).encode())
        for number in range(_FIRST, _LAST + 1)
    },
}


def to_text(name: str) -> str:
    """Converts a name or path, as from os.fsdecode, to text."""
    return name if name.isascii() else name.translate(_TO_TEXT)


def from_text(text: str) -> str:
    """Converts text back to a name or path that os.fsencode accepts."""
    return text if text.isascii() else text.translate(_TO_NAME)
