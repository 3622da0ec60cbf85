"""Determines a call's principal from its metadata."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from portico.core.auth.api_keys import PREFIX, ApiKeyRegistry
from portico.core.errors import Unauthenticated
from portico.model.identity import Principal

if TYPE_CHECKING:
    from portico.core.auth.jwt_verifier import JwtVerifier

CREDENTIAL_CHARACTERS = 16 * 1024
_MISSING = "the call needs a credential in the metadata: authorization, with Bearer and an API key or a JWT"


class Authenticator:
    """Checks credentials of both kinds."""

    def __init__(self, keys: ApiKeyRegistry, tokens: "JwtVerifier | None") -> None:
        self._keys = keys
        self._tokens = tokens

    def at_once(self, credential: str) -> Principal | None:
        """The principal, if it can be determined without waiting; None if `check` is needed. Raises
        Unauthenticated."""
        if self._tokens is None or credential.startswith(PREFIX) or credential.count(".") != 2:
            return self._keys.check(credential)
        return self._tokens.remembered(credential)

    async def check(self, credential: str) -> Principal:
        """The principal of a credential. Raises Unauthenticated, IssuerUnavailable."""
        found = self.at_once(credential)
        if found is None:
            assert self._tokens is not None
            found = await self._tokens.check(credential)
        return found


def credential_of(metadata: Iterable[tuple[str, str | bytes]] | None) -> str:
    """A call's credential, empty without one. Raises Unauthenticated for malformed metadata."""
    given = [value for name, value in metadata or () if name == "authorization"]
    if len(given) > 1:
        raise Unauthenticated(_MISSING, why="malformed")
    return bearer(given[0] if given else None)


def bearer(value: str | bytes | None) -> str:
    """The credential in a value of `authorization`, empty for None. Raises Unauthenticated if it is
    malformed."""
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > CREDENTIAL_CHARACTERS:
        raise Unauthenticated(_MISSING, why="malformed")
    scheme, _, credential = value.partition(" ")
    credential = credential.strip()
    if scheme.lower() != "bearer" or not credential:
        raise Unauthenticated(_MISSING, why="malformed")
    return credential


def missing() -> Unauthenticated:
    """The error for a call that needs a credential and has none."""
    return Unauthenticated(_MISSING, why="missing")
