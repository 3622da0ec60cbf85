"""API keys: creation, check, revocation.

A key consists of its id and 256 random bits. The store has only its SHA-256; a
slow hash would add nothing, because a key can't be guessed. All keys are in
memory, and only one core uses a database, so a check needs no I/O and a
revocation takes effect at once.
"""

import hashlib
import hmac
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from portico.core.errors import InvalidArgument, KeyNotFound, Unauthenticated
from portico.core.stores.ports.api_keys import KeyRecord, KeyStore
from portico.model.identity import AGENT_PREFIX, SCOPES, TENANT, TENANT_PREFIX, Principal, make_principal

PREFIX = "pk_"
_ID_CHARACTERS = len(PREFIX) + 20
_USER_CHARACTERS = 256
_NAME_CHARACTERS = 256
OPERATOR = "operator"  # user id of the admin key from the settings


@dataclass(frozen=True, slots=True)
class _KnownKey:
    record: KeyRecord
    principal: Principal


class ApiKeyRegistry:
    """API keys of one core. For use on the event loop only."""

    def __init__(self, store: KeyStore, admin_key: str = "") -> None:
        """`admin_key` is the key from the settings, if any; it can create the others."""
        self._store = store
        self._admin = _digest(admin_key) if admin_key else b""
        self._operator = make_principal("", OPERATOR, frozenset(("admin",)))
        self._known: dict[str, _KnownKey] = {}
        self._ending: dict[str, float] = {}  # revocation times of keys that the store does not have yet

    async def load(self) -> None:
        self._known = {record.key_id: _to_known_key(record) for record in await self._store.all()}

    @property
    def none(self) -> bool:
        """Whether no key can be valid."""
        return not self._admin and all(known.record.revoked_at is not None for known in self._known.values())

    def check(self, credential: str) -> Principal:
        """The principal of a key. Raises Unauthenticated."""
        digest = _digest(credential)
        if self._admin and hmac.compare_digest(digest, self._admin):
            return self._operator
        known = self._known.get(credential[:_ID_CHARACTERS])
        if known is None or not hmac.compare_digest(digest, known.record.digest):
            raise Unauthenticated
        record = known.record
        if record.expires_at is not None and record.expires_at <= time.time():
            raise Unauthenticated(why="expired")
        if record.revoked_at is not None or record.key_id in self._ending:
            raise Unauthenticated(why="revoked")
        return known.principal

    async def create(
        self, tenant: str, user_id: str, scopes: Sequence[str], name: str, expires_at: float | None
    ) -> tuple[KeyRecord, str]:
        """Creates a key.

        Args:
            scopes: Names from SCOPES; `use` if empty.
            name: A label for people.
            expires_at: Seconds since the epoch; None for a key that does not expire.

        Returns:
            The stored record, and the key itself, which can't be read again.

        Raises:
            InvalidArgument: A value is not allowed.
            StoreUnavailable: The key can't be stored.
        """
        check_names(tenant, user_id)
        for scope in scopes:
            if scope not in SCOPES:
                raise InvalidArgument(
                    "principal.scopes", f"unknown scope {scope!r}; expected one of {', '.join(SCOPES)}"
                )
        if len(name) > _NAME_CHARACTERS:
            raise InvalidArgument("name", f"more than {_NAME_CHARACTERS} characters")
        if expires_at is not None and expires_at <= time.time():
            raise InvalidArgument("expire_time", "must be in the future")
        key_id = f"{PREFIX}{secrets.token_hex(10)}"
        credential = f"{key_id}_{secrets.token_urlsafe(32)}"
        record = KeyRecord(
            key_id=key_id,
            digest=_digest(credential),
            name=name,
            tenant=tenant,
            user_id=user_id,
            scopes=" ".join(sorted(set(scopes))) or "use",
            created_at=time.time(),
            expires_at=expires_at,
            revoked_at=None,
        )
        await self._store.add(record)
        self._known[key_id] = _to_known_key(record)
        return record, credential

    def listed(self) -> list[KeyRecord]:
        """All keys, newest first."""
        records = (known.record for known in self._known.values())
        return sorted(records, key=lambda record: (record.created_at, record.key_id), reverse=True)

    async def revoke(self, key_id: str) -> KeyRecord:
        """Revokes a key; returns once that is stored, also for a key revoked before. Raises KeyNotFound,
        StoreUnavailable."""
        known = self._known.get(key_id)
        if known is None:
            raise KeyNotFound(key_id)
        if known.record.revoked_at is None:
            # Revoked in memory first: even if the store refuses the write, the key must not stay valid.
            at = self._ending.setdefault(key_id, time.time())
            await self._store.revoke(key_id, at)
            self._known[key_id] = known = _to_known_key(replace(known.record, revoked_at=at))
            self._ending.pop(key_id, None)
        return known.record

    async def forget(self, tenant: str, user_id: str) -> int:
        """Deletes a user's keys; they are invalid at once. Returns how many existed. Raises
        StoreUnavailable."""
        theirs = [
            key_id
            for key_id, known in self._known.items()
            if (known.record.tenant, known.record.user_id) == (tenant, user_id)
        ]
        # Revoked in memory first, as above. The records stay until the store has deleted them, so that a
        # repeat of a failed call finds them.
        for key_id in theirs:
            self._ending.setdefault(key_id, time.time())
        await self._store.delete(theirs)
        for key_id in theirs:
            self._known.pop(key_id, None)
            self._ending.pop(key_id, None)
        return len(theirs)


def check_names(tenant: str, user_id: str) -> None:
    """Checks a principal's tenant and user id. Raises InvalidArgument."""
    if tenant and not TENANT.fullmatch(tenant):
        raise InvalidArgument(
            "principal.tenant", "must be at most 64 letters, digits, dots, underscores and hyphens"
        )
    if not 0 < len(user_id) <= _USER_CHARACTERS or "\0" in user_id:
        raise InvalidArgument("principal.user_id", f"must have 1 to {_USER_CHARACTERS} characters and no NUL")
    if user_id.startswith((TENANT_PREFIX, AGENT_PREFIX)):
        raise InvalidArgument(
            "principal.user_id", f"must not begin with {TENANT_PREFIX} or {AGENT_PREFIX}, which are reserved"
        )


def _to_known_key(record: KeyRecord) -> _KnownKey:
    return _KnownKey(record, make_principal(record.tenant, record.user_id, frozenset(record.scopes.split())))


def _digest(credential: str) -> bytes:
    return hashlib.sha256(credential.encode()).digest()
