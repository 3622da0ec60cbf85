"""Checks JWTs of one issuer. Valid tokens are cached for a while, so their signatures are checked once."""

import hashlib
import logging
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, NamedTuple

import jwt

from portico.core.auth.api_keys import check_names
from portico.core.auth.jwks import JwksCache
from portico.core.errors import InvalidArgument, Unauthenticated
from portico.model.identity import Principal, make_principal

log = logging.getLogger(__name__)

# Asymmetric algorithms only: a key that checks signatures must not be able to make them.
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
REMEMBERED = 10_000
REMEMBERED_SECONDS = 60.0  # longest time that a token stays valid after its key was withdrawn


@dataclass(frozen=True, slots=True)
class JwtIssuer:
    """A trusted issuer, and the claims of its tokens that name tenant, user and scopes."""

    issuer: str
    audience: str
    jwks_url: str
    tenant_claim: str = "tenant"
    user_claim: str = "sub"
    scopes_claim: str = "scope"
    leeway_seconds: float = 30.0
    keys_seconds: float = 3600.0  # how long its keys stay valid while jwks_url can't be read


class _VerifiedToken(NamedTuple):
    """A token's principal and how long it is cached: `until` is monotonic time, `expires` seconds since the
    epoch."""

    principal: Principal
    until: float
    expires: float


class JwtVerifier:
    """Checks tokens of one issuer and caches valid ones."""

    def __init__(self, issuer: JwtIssuer) -> None:
        self._issuer = issuer
        self._jwks = JwksCache(issuer.jwks_url, issuer.keys_seconds)
        self._good: OrderedDict[bytes, _VerifiedToken] = OrderedDict()

    def remembered(self, credential: str) -> Principal | None:
        """The principal of a token that was checked a short while ago; None if it must be checked."""
        name = _digest(credential)
        found = self._good.get(name)
        if found is None:
            return None
        if found.until <= time.monotonic() or found.expires <= time.time():
            del self._good[name]
            return None
        return found.principal

    async def check(self, credential: str) -> Principal:
        """The principal of a token. Raises Unauthenticated, IssuerUnavailable."""
        try:
            kid = jwt.get_unverified_header(credential).get("kid", "")
            claims = jwt.decode(
                credential,
                await self._jwks.key(kid if isinstance(kid, str) else ""),
                algorithms=ALGORITHMS,
                issuer=self._issuer.issuer,
                audience=self._issuer.audience,
                leeway=self._issuer.leeway_seconds,
                options={"require": ["exp", "iss", "aud"]},
            )
            found = self._principal(claims)
        except (jwt.PyJWTError, InvalidArgument, ValueError) as error:
            log.info("a token is refused: %s", error)
            expired = isinstance(error, jwt.ExpiredSignatureError)
            raise Unauthenticated(why="expired" if expired else "invalid") from None
        expires = float(claims["exp"]) + self._issuer.leeway_seconds
        until = min(time.monotonic() + REMEMBERED_SECONDS, self._jwks.good_until)
        self._good[_digest(credential)] = _VerifiedToken(found, until, expires)
        while len(self._good) > REMEMBERED:
            self._good.popitem(last=False)
        return found

    def _principal(self, claims: dict[str, Any]) -> Principal:
        """The principal in a token's claims. Raises InvalidArgument."""
        tenant, user = claims.get(self._issuer.tenant_claim, ""), claims.get(self._issuer.user_claim, "")
        if not isinstance(tenant, str) or not isinstance(user, str):
            raise InvalidArgument("principal", "tenant and user must be strings")
        check_names(tenant, user)
        scopes = claims.get(self._issuer.scopes_claim)
        if isinstance(scopes, str):
            scopes = scopes.split()
        if not isinstance(scopes, list):
            scopes = []
        # Tokens may have further scopes for other services. A token without any portico: scope gets `use`.
        ours = {scope.removeprefix("portico:") for scope in map(str, scopes) if scope.startswith("portico:")}
        return make_principal(tenant, user, frozenset(ours or {"use"}))


def _digest(credential: str) -> bytes:
    return hashlib.sha256(credential.encode()).digest()
