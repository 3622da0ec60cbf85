"""API keys: made, checked, revoked.

A key is its id and 256 bits of chance. What is kept is its SHA-256: a key can't
be guessed, so there is nothing that a slow hash would protect. All keys are in
memory, one core has a database, and so a check asks nobody and a revocation
holds at once.
"""

import hashlib
import hmac
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from portico.core.errors import InvalidArgument, KeyNotFound, Unauthenticated
from portico.core.stores.ports.api_keys import KeyRecord, KeyStore
from portico.model.identity import AGENT_PREFIX, SCOPES, TENANT, TENANT_PREFIX, Principal, principal

PREFIX = "pk_"
_ID_CHARACTERS = len(PREFIX) + 20
_USER_CHARACTERS = 256
_NAME_CHARACTERS = 256
OPERATOR = "operator"  # the user of the key that an operator sets


@dataclass(frozen=True, slots=True)
class _Known:
    record: KeyRecord
    principal: Principal


class ApiKeys:
    """The keys of one core. Owned by the event loop."""

    def __init__(self, store: KeyStore, admin_key: str = "") -> None:
        """The admin key is the one that comes from the settings, if any: it makes the others."""
        self._store = store
        self._admin = _digest(admin_key) if admin_key else b""
        self._operator = principal("", OPERATOR, frozenset(("admin",)))
        self._known: dict[str, _Known] = {}
        self._ending: dict[str, float] = {}  # since when, of keys whose end the store does not have yet

    async def load(self) -> None:
        self._known = {record.key_id: _known(record) for record in await self._store.all()}

    @property
    def none(self) -> bool:
        """Whether no key could be good."""
        return not self._admin and all(known.record.revoked_at is not None for known in self._known.values())

    def check(self, credential: str) -> Principal:
        """Raises Unauthenticated."""
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
        """The key's record, and the key. Raises InvalidArgument."""
        check_names(tenant, user_id)
        for scope in scopes:
            if scope not in SCOPES:
                raise InvalidArgument("principal.scopes", f"{scope!r} is none of {', '.join(SCOPES)}")
        if len(name) > _NAME_CHARACTERS:
            raise InvalidArgument("name", f"more than {_NAME_CHARACTERS} characters")
        if expires_at is not None and expires_at <= time.time():
            raise InvalidArgument("expire_time", "is past")
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
        self._known[key_id] = _known(record)
        return record, credential

    def listed(self) -> list[KeyRecord]:
        """Newest first."""
        records = (known.record for known in self._known.values())
        return sorted(records, key=lambda record: (record.created_at, record.key_id), reverse=True)

    async def revoke(self, key_id: str) -> KeyRecord:
        """Returns when that is stored, also for a repeat. Raises KeyNotFound, StoreUnavailable."""
        known = self._known.get(key_id)
        if known is None:
            raise KeyNotFound(key_id)
        if known.record.revoked_at is None:
            # It ends here first: a store that refuses writes must not keep it alive until the restart.
            at = self._ending.setdefault(key_id, time.time())
            await self._store.revoke(key_id, at)
            self._known[key_id] = known = _known(replace(known.record, revoked_at=at))
            self._ending.pop(key_id, None)
        return known.record

    async def forget(self, tenant: str, user_id: str) -> int:
        """Remove a user's keys, which are good no more; how many there were."""
        theirs = [
            key_id
            for key_id, known in self._known.items()
            if (known.record.tenant, known.record.user_id) == (tenant, user_id)
        ]
        # As above. They stay known until the store has lost them, so that a repeat finds them.
        for key_id in theirs:
            self._ending.setdefault(key_id, time.time())
        await self._store.delete(theirs)
        for key_id in theirs:
            self._known.pop(key_id, None)
            self._ending.pop(key_id, None)
        return len(theirs)


def check_names(tenant: str, user_id: str) -> None:
    """A tenant and a user as a principal may have them. Raises InvalidArgument."""
    if tenant and not TENANT.fullmatch(tenant):
        raise InvalidArgument("principal.tenant", "at most 64 letters, digits, dots, underscores and hyphens")
    if not 0 < len(user_id) <= _USER_CHARACTERS or "\0" in user_id:
        raise InvalidArgument(
            "principal.user_id", f"needs 1 to {_USER_CHARACTERS} characters, none of them NUL"
        )
    if user_id.startswith((TENANT_PREFIX, AGENT_PREFIX)):
        raise InvalidArgument("principal.user_id", f"{TENANT_PREFIX} and {AGENT_PREFIX} begin other ids")


def _known(record: KeyRecord) -> _Known:
    return _Known(record, principal(record.tenant, record.user_id, frozenset(record.scopes.split())))


def _digest(credential: str) -> bytes:
    return hashlib.sha256(credential.encode()).digest()
