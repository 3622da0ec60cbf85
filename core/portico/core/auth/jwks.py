"""An issuer's public keys: fetched when needed, kept for a while, fetched again when one is unknown."""

import asyncio
import logging
import time

import httpx
import jwt

from portico.core.errors import IssuerUnavailable, Unauthenticated

log = logging.getLogger(__name__)

FRESH_SECONDS = 300.0
AGAIN_SECONDS = 10.0  # unknown keys, which anybody can name, make no more fetches than this
FETCH_SECONDS = 5.0
MAX_BYTES = 256 * 1024


class Jwks:
    """The keys behind one URL."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched = float("-inf")  # when they came
        self._tried = float("-inf")
        self._fetching = asyncio.Lock()

    async def key(self, kid: str) -> jwt.PyJWK:
        """Raises Unauthenticated for a key that the issuer has not, IssuerUnavailable."""
        now = time.monotonic()
        if kid not in self._keys or now - self._fetched > FRESH_SECONDS:
            async with self._fetching:
                # Whoever waited for another's fetch has its outcome.
                if self._fetched < now and time.monotonic() - self._tried > AGAIN_SECONDS:
                    await self._fetch()
        try:
            return self._keys[kid]
        except KeyError:
            if not self._keys:
                raise IssuerUnavailable from None
            raise Unauthenticated from None

    async def _fetch(self) -> None:
        """Keys that are there stay good while the issuer can't be asked."""
        self._tried = time.monotonic()
        try:
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
            found = jwt.PyJWKSet.from_json(body.decode())
        except (httpx.HTTPError, httpx.InvalidURL, jwt.PyJWTError, ValueError) as error:
            log.warning("the keys at %s can't be read: %s", self._url, error)
            return
        self._keys = {key.key_id or "": key for key in found.keys}
        self._fetched = time.monotonic()
