"""JWTs of one issuer. What a signature costs is paid once for each token: the good ones are remembered."""

import hashlib
import logging
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, NamedTuple

import jwt

from portico.core.auth.api_keys import check_names
from portico.core.auth.jwks import Jwks
from portico.core.errors import InvalidArgument, Unauthenticated
from portico.model.identity import Principal, principal

log = logging.getLogger(__name__)

# Those with a public key: who can check a signature must not be able to make one.
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
REMEMBERED = 10_000
REMEMBERED_SECONDS = 60.0  # a key that is known to be withdrawn is good no longer than this


@dataclass(frozen=True, slots=True)
class Issuer:
    """Whose tokens are good, and where they say who it is."""

    issuer: str
    audience: str
    jwks_url: str
    tenant_claim: str = "tenant"
    user_claim: str = "sub"
    scopes_claim: str = "scope"
    leeway_seconds: float = 30.0
    keys_seconds: float = 3600.0  # how long its keys are good while it can't be asked


class _Good(NamedTuple):
    """Whose a token is, and until when nobody needs to look again: by time that goes by, and by the date."""

    principal: Principal
    until: float
    expires: float


class Tokens:
    """Checks tokens."""

    def __init__(self, issuer: Issuer) -> None:
        self._issuer = issuer
        self._jwks = Jwks(issuer.jwks_url, issuer.keys_seconds)
        self._good: OrderedDict[bytes, _Good] = OrderedDict()

    def remembered(self, credential: str) -> Principal | None:
        """Who it is, if that has been found out a while ago at most."""
        name = _digest(credential)
        found = self._good.get(name)
        if found is None:
            return None
        if found.until <= time.monotonic() or found.expires <= time.time():
            del self._good[name]
            return None
        return found.principal

    async def check(self, credential: str) -> Principal:
        """Raises Unauthenticated, IssuerUnavailable."""
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
        self._good[_digest(credential)] = _Good(found, until, expires)
        while len(self._good) > REMEMBERED:
            self._good.popitem(last=False)
        return found

    def _principal(self, claims: dict[str, Any]) -> Principal:
        """Raises InvalidArgument."""
        tenant, user = claims.get(self._issuer.tenant_claim, ""), claims.get(self._issuer.user_claim, "")
        if not isinstance(tenant, str) or not isinstance(user, str):
            raise InvalidArgument("principal", "tenant and user must be texts")
        check_names(tenant, user)
        scopes = claims.get(self._issuer.scopes_claim)
        if isinstance(scopes, str):
            scopes = scopes.split()
        if not isinstance(scopes, list):
            scopes = []
        # Issuers have scopes of their own beside ours. A token that names none of ours may use.
        ours = {scope.removeprefix("portico:") for scope in map(str, scopes) if scope.startswith("portico:")}
        return principal(tenant, user, frozenset(ours or {"use"}))


def _digest(credential: str) -> bytes:
    return hashlib.sha256(credential.encode()).digest()
