"""An issuer's public keys: fetched when needed, kept for a while, fetched again when one is unknown."""

import asyncio
import logging
import time

import httpx
import jwt
import orjson

from portico.core.errors import IssuerUnavailable, Unauthenticated
from portico.telemetry.rarely import Rarely

log = logging.getLogger(__name__)

FRESH_SECONDS = 300.0
AGAIN_SECONDS = 10.0  # unknown keys, which anybody can name, make no more fetches than this
FETCH_SECONDS = 5.0
MAX_BYTES = 256 * 1024


class Jwks:
    """The keys behind one URL."""

    def __init__(self, url: str, good_seconds: float) -> None:
        """While the URL can't be read, the last keys from it stay good for `good_seconds`."""
        self._url = url
        self._good_seconds = good_seconds
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched = float("-inf")  # when they came
        self._tried = float("-inf")
        self._fetching = asyncio.Lock()
        self._failing = Rarely()
        self._over = False  # whether it has been logged that they are too old

    @property
    def good_until(self) -> float:
        """When the keys are too old, by the monotonic clock, unless they are fetched again."""
        return self._fetched + self._good_seconds

    async def key(self, kid: str) -> jwt.PyJWK:
        """Raises Unauthenticated for a key that the issuer has not, IssuerUnavailable."""
        now = time.monotonic()
        if kid not in self._keys or now - self._fetched > min(FRESH_SECONDS, self._good_seconds / 2):
            async with self._fetching:
                # Whoever waited for another's fetch has its outcome.
                if self._fetched < now and time.monotonic() - self._tried > AGAIN_SECONDS:
                    await self._fetch()
        if time.monotonic() >= self.good_until:
            self._refuse()
            raise IssuerUnavailable
        try:
            return self._keys[kid]
        except KeyError:
            raise Unauthenticated from None

    async def _fetch(self) -> None:
        """Keys that are there stay as they are when the issuer can't be asked."""
        self._tried = time.monotonic()
        try:
            async with asyncio.timeout(FETCH_SECONDS):
                self._keys = _keys(await self._read())
        except (httpx.HTTPError, httpx.InvalidURL, jwt.PyJWTError, ValueError, TimeoutError) as error:
            if self._failing.due():
                left = max(self.good_until - time.monotonic(), 0.0)
                log.warning(
                    "the keys at %s can't be read; those from there are good for %.0f s more: %s",
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
        """Log that nobody with a token is let in any more; once, until the keys are there again."""
        if self._keys and not self._over:
            log.error(
                "the keys at %s have not been read for %.0f s: tokens are refused until they are",
                *(self._url, self._good_seconds),
            )
            self._over = True


def _keys(body: bytes) -> dict[str, jwt.PyJWK]:
    """By their ids. Raises ValueError, PyJWTError."""
    told = orjson.loads(body)
    if not isinstance(told, dict) or not isinstance(told.get("keys"), list):
        raise ValueError("it is no JSON Web Key Set")
    if not told["keys"]:
        return {}  # all are withdrawn; the library takes that for a mistake
    named = [key for key in told["keys"] if isinstance(key, dict) and isinstance(key.get("kid", ""), str)]
    try:
        return {key.key_id or "": key for key in jwt.PyJWKSet(named).keys}
    except (AttributeError, TypeError) as error:
        raise ValueError(f"it has a key that is none: {error}") from None
