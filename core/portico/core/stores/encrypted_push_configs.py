"""The store of push configs with encrypted URLs and credentials."""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace

from portico.core.errors import StoreUnavailable
from portico.core.stores.encryption import EncryptionKeys, UnknownKey, is_encrypted
from portico.core.stores.ports.push_configs import PushRecord, PushStore

# A URL is often a secret too: everyone who knows the URL of a webhook can post to it.
_SECRETS = ("url", "token", "auth_credentials")
_BATCH = 100


class EncryptedPushStore:
    """PushStore that encrypts the secrets and stores the records in another. Call `ready` before use."""

    def __init__(self, store: PushStore, keys: EncryptionKeys) -> None:
        self._store = store
        self._keys = keys
        self.delete = store.delete
        self.delete_all = store.delete_all
        self.acknowledge = store.acknowledge

    async def ready(self) -> None:
        """Encrypt the secrets that are stored unencrypted or with an older key.

        Raises StoreUnavailable if one is encrypted with a key that is not configured.
        """
        async for record in _every(self._store):
            if not all(self._keys.is_current(getattr(record, name)) for name in _SECRETS):
                await self.set(self._opened(record))

    async def set(self, record: PushRecord) -> None:
        await self._store.set(_changed(record, self._keys.encrypt))

    async def get(self, run_id: str, config_id: str) -> PushRecord:
        return self._opened(await self._store.get(run_id, config_id))

    async def list(self, run_id: str, after: str, limit: int) -> Sequence[PushRecord]:
        return [self._opened(record) for record in await self._store.list(run_id, after, limit)]

    async def all(self, after: tuple[str, str] | None, limit: int) -> Sequence[PushRecord]:
        return [self._opened(record) for record in await self._store.all(after, limit)]

    async def undelivered(self) -> Sequence[PushRecord]:
        return [self._opened(record) for record in await self._store.undelivered()]

    def _opened(self, record: PushRecord) -> PushRecord:
        try:
            return _changed(record, self._keys.decrypt)
        except UnknownKey:
            raise _unknown() from None


async def with_encryption(store: PushStore, keys: EncryptionKeys | None) -> PushStore:
    """Return the store with its secrets encrypted or, without keys, the store itself.

    Raises StoreUnavailable if it has secrets that these keys can't decrypt.
    """
    if keys is not None:
        pushes = EncryptedPushStore(store, keys)
        await pushes.ready()
        return pushes
    async for record in _every(store):
        if any(is_encrypted(getattr(record, name)) for name in _SECRETS):
            raise _unknown()
    return store


async def _every(store: PushStore) -> AsyncIterator[PushRecord]:
    place = None
    while records := await store.all(place, _BATCH):
        for record in records:
            yield record
        place = records[-1].run_id, records[-1].config_id


def _changed(record: PushRecord, change: Callable[[str, str], str]) -> PushRecord:
    url, token, credentials = (
        change(getattr(record, name), "\0".join((name, record.run_id, record.config_id))) for name in _SECRETS
    )
    return replace(record, url=url, token=token, auth_credentials=credentials)


def _unknown() -> StoreUnavailable:
    return StoreUnavailable(
        "push configs are encrypted with a key that is not configured: add it to --store-key-file or "
        "PORTICO_CORE_STORE_KEY, after the new key"
    )
