"""Encryption of secrets before they are stored: AES-256-GCM, with keys that an operator configures.

A sealed (encrypted) text begins with a control character, which plain texts never begin
with, and the id of its key. Its place, such as the record and field, is authenticated
with it, so a sealed text that is copied to another place can't be decrypted.
"""

import os
import re
from base64 import b64decode, b64encode
from hashlib import sha256

_KEY = re.compile(r"[0-9a-fA-F]{64}")
_MARK = "\x01"
_NONCE_BYTES = 12


class UnknownKey(Exception):
    """The text is sealed with a key that is not configured, or was changed or moved."""


class EncryptionKeys:
    """Seals (encrypts) with the first key, and opens (decrypts) with any."""

    def __init__(self, text: str) -> None:
        """Read keys of 64 hexadecimal digits, separated by commas or white space. Raises ValueError."""
        # Imported only here because the import is slow and few need it.
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        words = text.replace(",", " ").split()
        if not words or not all(map(_KEY.fullmatch, words)):
            raise ValueError("needs keys of 64 hexadecimal digits; `openssl rand -hex 32` makes one")
        keys = [bytes.fromhex(word) for word in words]
        self._ciphers = {sha256(key).hexdigest()[:8]: AESGCM(key) for key in keys}
        self._first = next(iter(self._ciphers))

    def encrypt(self, text: str, place: str) -> str:
        """Encrypt a text for its place. An empty text is returned as it is, since it has nothing to hide."""
        if not text:
            return ""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._ciphers[self._first].encrypt(nonce, text.encode(), place.encode())
        return f"{_MARK}{self._first}:{b64encode(nonce + sealed).decode()}"

    def decrypt(self, text: str, place: str) -> str:
        """Decrypt a text of this place. A text that is not sealed is returned as it is. Raises UnknownKey."""
        from cryptography.exceptions import InvalidTag

        if not is_encrypted(text):
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
        """Return whether the text is empty or sealed with the first key."""
        return not text or text.startswith(f"{_MARK}{self._first}:")


def is_encrypted(text: str) -> bool:
    return text.startswith(_MARK)
