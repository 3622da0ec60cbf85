"""API keys: what the store has of them, and when they are valid."""

import time
from pathlib import Path

import pytest

from portico.core.auth.api_keys import ApiKeyRegistry
from portico.core.errors import InvalidArgument, KeyNotFound, StoreUnavailable, Unauthenticated
from portico.core.stores.open_stores import open_stores


async def test_a_key_is_good_until_it_is_revoked_or_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = ApiKeyRegistry((await open_stores("memory://")).keys)
    record, credential = await keys.create("acme", "ada", ["read"], "laptop", None)
    _, short = await keys.create("acme", "bob", [], "", time.time() + 60)
    assert keys.check(credential).owner == "tenant:acme:ada"
    assert keys.check(credential).scopes == {"read"}
    assert keys.check(short).scopes == {"use", "read"}
    later = time.time() + 61
    monkeypatch.setattr(time, "time", lambda: later)
    with pytest.raises(Unauthenticated):
        keys.check(short)
    revoked = await keys.revoke(record.key_id)
    assert (await keys.revoke(record.key_id)).revoked_at == revoked.revoked_at
    with pytest.raises(Unauthenticated):
        keys.check(credential)
    with pytest.raises(KeyNotFound):
        await keys.revoke("pk_none")


async def test_a_repeat_is_told_of_an_end_that_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    stores = await open_stores("memory://")
    keys = ApiKeyRegistry(stores.keys)
    record, credential = await keys.create("", "ada", [], "", None)

    async def refused(*_: object) -> None:
        raise StoreUnavailable("the disk is full")

    with monkeypatch.context() as full:
        full.setattr(stores.keys, "revoke", refused)
        full.setattr(stores.keys, "delete", refused)
        for end in (keys.revoke(record.key_id), keys.revoke(record.key_id), keys.forget("", "ada")):
            with pytest.raises(StoreUnavailable):
                await end
        assert [one.revoked_at for one in keys.listed()] == [None]
    # The key is invalid all the same.
    with pytest.raises(Unauthenticated):
        keys.check(credential)
    revoked = await keys.revoke(record.key_id)
    assert revoked.revoked_at is not None
    assert await stores.keys.all() == [revoked]
    with monkeypatch.context() as full:
        full.setattr(stores.keys, "delete", refused)
        with pytest.raises(StoreUnavailable):
            await keys.forget("", "ada")
    assert await keys.forget("", "ada") == 1
    assert await stores.keys.all() == []


async def test_a_database_has_digests_only_and_the_next_process_knows_the_keys(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/keys.db"
    stores = await open_stores(url)
    keys = ApiKeyRegistry(stores.keys)
    kept, credential = await keys.create("", "ada", [], "", None)
    gone, other = await keys.create("", "ada", [], "", None)
    await keys.revoke(gone.key_id)
    await stores.close()
    on_disk = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert kept.key_id.encode() in on_disk
    assert credential.removeprefix(kept.key_id).encode() not in on_disk

    stores = await open_stores(url)
    try:
        keys = ApiKeyRegistry(stores.keys)
        assert keys.none
        await keys.load()
        assert not keys.none
        assert keys.check(credential).user == "ada"
        with pytest.raises(Unauthenticated):
            keys.check(other)
        assert {record.key_id for record in keys.listed()} == {kept.key_id, gone.key_id}
    finally:
        await stores.close()


@pytest.mark.parametrize(
    "change", [lambda key: key[:-1], lambda key: f"{key}x", lambda key: key[:5], str.upper]
)
async def test_what_is_nearly_a_key_is_none(change: object) -> None:
    keys = ApiKeyRegistry((await open_stores("memory://")).keys, "the-admin-key")
    _, credential = await keys.create("", "ada", [], "", None)
    for good in (credential, "the-admin-key"):
        keys.check(good)
        with pytest.raises(Unauthenticated):
            keys.check(change(good))  # type: ignore[operator]


@pytest.mark.parametrize(
    ("tenant", "user", "scopes"),
    [
        ("a/b", "ada", []),
        ("a" * 65, "ada", []),
        ("a:b", "ada", []),
        ("", "", []),
        ("", "tenant:acme:ada", []),
        ("", "agent:friday", []),
        ("", "a\0", []),
        ("", "ada", ["everything"]),
    ],
)
async def test_names_and_scopes_that_can_not_be_are_refused(
    tenant: str, user: str, scopes: list[str]
) -> None:
    keys = ApiKeyRegistry((await open_stores("memory://")).keys)
    with pytest.raises(InvalidArgument):
        await keys.create(tenant, user, scopes, "", None)
    with pytest.raises(InvalidArgument):
        await keys.create("", "ada", [], "", time.time() - 1)
    assert keys.listed() == []
