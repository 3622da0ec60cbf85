"""Signed tokens for ports of sandboxes. A sandbox ends with its core, and so does the key."""

import base64
import hmac
import secrets
import time

from portico.core.sandboxes.sandbox_errors import SandboxNotFound

_SIGNATURE_BYTES = 18


def expired() -> SandboxNotFound:
    return SandboxNotFound("the access token is not valid, or not any more")


class PortAccess:
    """Makes and reads tokens."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)

    def make(self, sandbox_id: str, port: int, lifetime: float) -> tuple[str, float]:
        """A token and the date when it expires. What counts is the time that goes by: dates get changed."""
        until = int(time.monotonic() + lifetime)
        text = f"{sandbox_id}.{port}.{until}".encode()
        token = base64.urlsafe_b64encode(text + self._sign(text)).rstrip(b"=")
        return token.decode(), time.time() + until - time.monotonic()

    def read(self, token: str) -> tuple[str, int, float]:
        """The sandbox, the port, and for how many seconds it is good. Raises SandboxNotFound."""
        try:
            data = base64.urlsafe_b64decode(token.encode() + b"=" * (-len(token) % 4))
        except ValueError:
            data = b""
        text, signature = data[:-_SIGNATURE_BYTES], data[-_SIGNATURE_BYTES:]
        if hmac.compare_digest(signature, self._sign(text)):
            sandbox_id, port, until = text.decode().rsplit(".", 2)
            left = int(until) - time.monotonic()
            if left > 0:
                return sandbox_id, int(port), left
        raise expired()  # an attacker who guesses learns no more

    def _sign(self, text: bytes) -> bytes:
        return hmac.digest(self._key, text, "sha256")[:_SIGNATURE_BYTES]
