"""The store interface for API keys. Only digests of the keys are stored."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """One API key."""

    key_id: str
    digest: bytes
    name: str
    tenant: str
    user_id: str
    scopes: str  # names separated by spaces
    created_at: float
    expires_at: float | None
    revoked_at: float | None


class KeyStore(Protocol):
    """Store of a core's API keys, few enough to cache in memory. Any method may raise StoreUnavailable."""

    async def add(self, record: KeyRecord) -> None: ...

    async def all(self) -> Sequence[KeyRecord]: ...

    async def revoke(self, key_id: str, at: float) -> None:
        """Set the key's time of revocation, unless it is revoked already."""
        ...

    async def delete(self, key_ids: Sequence[str]) -> None:
        """Delete the records of these keys."""
        ...
