"""An issuer's public keys (JWKS): fetched on demand, cached, and fetched again for an unknown key id."""

import asyncio
import logging
import time

import httpx
import jwt
import orjson

from portico.core.errors import IssuerUnavailable, Unauthenticated
from portico.telemetry.log.retry_log import RetryLog

log = logging.getLogger(__name__)

FRESH_SECONDS = 300.0
MIN_REFETCH_SECONDS = 10.0  # least time between fetches: any caller can name unknown keys
FETCH_SECONDS = 5.0
MAX_BYTES = 256 * 1024


class JwksCache:
    """Public keys from one URL."""

    def __init__(self, url: str, good_seconds: float) -> None:
        """While the URL can't be read, the last keys from it stay valid for `good_seconds`."""
        self._url = url
        self._good_seconds = good_seconds
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched = float("-inf")  # time of the last successful fetch
        self._tried = float("-inf")
        self._fetching = asyncio.Lock()
        self._failing = RetryLog()
        self._over = False  # whether the log has the message that they are too old

    @property
    def good_until(self) -> float:
        """Monotonic time from which the keys are too old, unless they are fetched again."""
        return self._fetched + self._good_seconds

    async def key(self, kid: str) -> jwt.PyJWK:
        """The key with an id. Raises Unauthenticated if the issuer has no such key, IssuerUnavailable if its
        keys can't be read."""
        now = time.monotonic()
        if kid not in self._keys or now - self._fetched > min(FRESH_SECONDS, self._good_seconds / 2):
            async with self._fetching:
                # A caller that waited for another caller's fetch uses its result.
                if self._fetched < now and time.monotonic() - self._tried > MIN_REFETCH_SECONDS:
                    await self._fetch()
        if time.monotonic() >= self.good_until:
            self._refuse()
            raise IssuerUnavailable
        try:
            return self._keys[kid]
        except KeyError:
            raise Unauthenticated from None

    async def _fetch(self) -> None:
        """Fetches the keys; on failure the old ones stay."""
        self._tried = time.monotonic()
        try:
            async with asyncio.timeout(FETCH_SECONDS):
                self._keys = _keys(await self._read())
        except (httpx.HTTPError, httpx.InvalidURL, jwt.PyJWTError, ValueError, TimeoutError) as error:
            if self._failing.due():
                left = max(self.good_until - time.monotonic(), 0.0)
                log.warning(
                    "the keys at %s can't be read; the cached ones stay valid for %.0f s: %s",
                    *(self._url, left, str(error) or type(error).__name__),
                )
            return
        self._fetched = time.monotonic()
        self._over = False

    async def _read(self) -> bytes:
        async with (
            httpx.AsyncClient(timeout=FETCH_SECONDS) as client,
            client.stream("GET", self._url) as response,
        ):
            response.raise_for_status()
            body = b""
            async for piece in response.aiter_bytes():
                body += piece
                if len(body) > MAX_BYTES:
                    raise ValueError(f"more than {MAX_BYTES} bytes")
        return body

    def _refuse(self) -> None:
        """Logs once that tokens are refused from now on, until the keys can be read again."""
        if self._keys and not self._over:
            log.error(
                "the keys at %s have been unreadable for %.0f s: tokens are refused until they can be read",
                *(self._url, self._good_seconds),
            )
            self._over = True


def _keys(body: bytes) -> dict[str, jwt.PyJWK]:
    """Keys of a key set, by id. Raises ValueError, PyJWTError."""
    told = orjson.loads(body)
    if not isinstance(told, dict) or not isinstance(told.get("keys"), list):
        raise ValueError("the content is not a JSON Web Key Set")
    if not told["keys"]:
        return {}  # all keys are withdrawn; the library would raise an error
    named = [key for key in told["keys"] if isinstance(key, dict) and isinstance(key.get("kid", ""), str)]
    try:
        return {key.key_id or "": key for key in jwt.PyJWKSet(named).keys}
    except (AttributeError, TypeError) as error:
        raise ValueError(f"the set contains a malformed key: {error}") from None
