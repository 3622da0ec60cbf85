"""Secrets that are encrypted before they are stored: AES-256-GCM, with keys that an operator lists.

A sealed text begins with a control character, which no text that is sealed may have,
then says with which key it was sealed. What it belongs to is authenticated with it, so
a sealed text is good in its own place only.
"""

import os
import re
from base64 import b64decode, b64encode
from hashlib import sha256

_KEY = re.compile(r"[0-9a-fA-F]{64}")
_MARK = "\x01"
_NONCE_BYTES = 12


class UnknownKey(Exception):
    """The text is sealed with a key that is not listed, or is not what was sealed."""


class Keyring:
    """Seals with the first key, opens with any."""

    def __init__(self, text: str) -> None:
        """Keys of 64 hexadecimal digits, with commas or white space between. Raises ValueError."""
        # What encrypts takes long to import, and few need it.
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        words = text.replace(",", " ").split()
        if not words or not all(map(_KEY.fullmatch, words)):
            raise ValueError("needs keys of 64 hexadecimal digits, as `openssl rand -hex 32` makes them")
        keys = [bytes.fromhex(word) for word in words]
        self._ciphers = {sha256(key).hexdigest()[:8]: AESGCM(key) for key in keys}
        self._first = next(iter(self._ciphers))

    def seal(self, text: str, place: str) -> str:
        """An empty text stays as it is: there is nothing to hide."""
        if not text:
            return ""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._ciphers[self._first].encrypt(nonce, text.encode(), place.encode())
        return f"{_MARK}{self._first}:{b64encode(nonce + sealed).decode()}"

    def open(self, text: str, place: str) -> str:
        """A text that is not sealed is what it says. Raises UnknownKey."""
        from cryptography.exceptions import InvalidTag

        if not is_sealed(text):
            return text
        name, _, rest = text.removeprefix(_MARK).partition(":")
        try:
            data = b64decode(rest)
            return (
                self._ciphers[name].decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], place.encode()).decode()
            )
        except (KeyError, ValueError, InvalidTag):
            raise UnknownKey from None

    def is_current(self, text: str) -> bool:
        """Whether it would be sealed with the same key again."""
        return not text or text.startswith(f"{_MARK}{self._first}:")


def is_sealed(text: str) -> bool:
    return text.startswith(_MARK)
