"""API keys, as a store keeps them: not the keys but their digests."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """One key."""

    key_id: str
    digest: bytes
    name: str
    tenant: str
    user_id: str
    scopes: str  # by name, with a space between
    created_at: float
    expires_at: float | None
    revoked_at: float | None


class KeyStore(Protocol):
    """All keys of a core; few enough to be in memory too. Methods raise StoreUnavailable as others do."""

    async def add(self, record: KeyRecord) -> None: ...

    async def all(self) -> Sequence[KeyRecord]: ...

    async def revoke(self, key_id: str, at: float) -> None:
        """One that is revoked already stays as it is."""
        ...

    async def delete(self, key_ids: Sequence[str]) -> None:
        """As if they had never been."""
        ...
