"""Signed tokens for ports of sandboxes. The key is not stored: sandboxes and tokens end with the core."""

import base64
import hmac
import secrets
import time

from portico.core.sandboxes.sandbox_errors import SandboxNotFound

_SIGNATURE_BYTES = 18


def expired_token_error() -> SandboxNotFound:
    """The error for an invalid or expired token."""
    return SandboxNotFound("the access token is invalid or has expired")


class PortTokens:
    """Creates and verifies port tokens."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)

    def issue(self, sandbox_id: str, port: int, lifetime: float) -> tuple[str, float]:
        """Create a token.

        Args:
            sandbox_id: The sandbox.
            port: Its port.
            lifetime: Seconds until the token expires, on the monotonic clock, because dates may be changed.

        Returns:
            The token and the date at which it expires, in seconds since the epoch.
        """
        until = int(time.monotonic() + lifetime)
        text = f"{sandbox_id}.{port}.{until}".encode()
        token = base64.urlsafe_b64encode(text + self._sign(text)).rstrip(b"=")
        return token.decode(), time.time() + until - time.monotonic()

    def verify(self, token: str) -> tuple[str, int, float]:
        """Verify a token. Returns sandbox id, port and remaining seconds. Raises SandboxNotFound."""
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
        raise expired_token_error()  # the same error in all cases: a guess reveals nothing

    def _sign(self, text: bytes) -> bytes:
        return hmac.digest(self._key, text, "sha256")[:_SIGNATURE_BYTES]
