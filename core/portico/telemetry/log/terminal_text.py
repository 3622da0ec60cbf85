"""Makes text of callers, agents and models safe to show in a terminal."""

from typing import Final

# C0 except tab and line feed, DEL, C1, and characters that change a line's direction (Unicode TR 36, 2.8).
_STEERING: Final = (
    *(code for code in range(0x20) if chr(code) not in "\t\n"),
    *range(0x7F, 0xA0),
    *range(0x202A, 0x202F),
    *range(0x2066, 0x206A),
)
_NAMES: Final = {code: f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" for code in _STEERING}


def escape_control_characters(text: str) -> str:
    r"""Replaces each control character by its number, such as \x1b, so that no text acts on a terminal."""
    return text if text.isprintable() else text.translate(_NAMES)
