"""Names of files as text that every encoding can carry.

A name is any bytes. In this library it is a string as Python has it (os.fsdecode): a byte that is no UTF-8
is a lone surrogate, which neither protobuf nor JSON in UTF-8 can carry. As text, such a byte is a character
of the last private-use plane, U+10DC00 plus the byte's value. A character of that block that is really in a
name is written as its four bytes, so that each name has one text, and each text means one name.
"""

from typing import Final

_FIRST: Final = 0x10DC80
_LAST: Final = 0x10DCFF
_PLANE: Final = 0x100000  # between a lone surrogate and its character
_TO_NAME: Final = {number: number - _PLANE for number in range(_FIRST, _LAST + 1)}
_TO_TEXT: Final[dict[int, int | str]] = {
    **{number - _PLANE: number for number in range(_FIRST, _LAST + 1)},
    **{
        number: "".join(chr(0x10DC00 + byte) for byte in chr(number).encode())
        for number in range(_FIRST, _LAST + 1)
    },
}


def to_text(name: str) -> str:
    """Of a name or path, as os.fsdecode gives it."""
    return name if name.isascii() else name.translate(_TO_TEXT)


def from_text(text: str) -> str:
    """The name or path that a text means, as os.fsencode takes it."""
    return text if text.isascii() else text.translate(_TO_NAME)
