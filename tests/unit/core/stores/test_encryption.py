"""Encryption of stored secrets: the file's content, decryption with several keys, and changes of keys."""

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from support.a2a_gateways import scripted_agents

from portico.core.errors import StoreUnavailable
from portico.core.server.core_server import CoreServer
from portico.core.settings.core_settings import CoreSettings
from portico.core.stores.encrypted_push_configs import with_encryption
from portico.core.stores.encryption import EncryptionKeys, UnknownKey, is_encrypted
from portico.core.stores.open_stores import open_stores
from portico.core.stores.ports.push_configs import PushRecord, PushStore
from portico.core.stores.ports.stores import Stores

OLD, NEW = "0f" * 32, "Ab" * 32
SECRETS = ("https://hooks.example.org/T0/secret-path", "secret-token", "secret-credentials")
CONFIG = PushRecord("r1", "c1", SECRETS[0], SECRETS[1], "Bearer", SECRETS[2], -1, False, 1.5, "v1", "")


def test_a_sealed_text_is_opened_by_its_key_in_its_place_only() -> None:
    keys = EncryptionKeys(OLD)
    text = keys.encrypt("sécret", "here")
    assert is_encrypted(text)
    assert "sécret" not in text
    assert text != keys.encrypt("sécret", "here")
    assert keys.decrypt(text, "here") == "sécret"
    tampered = text[:-6] + ("A" if text[-6] != "A" else "B") + text[-5:]
    for ring, sealed_text, place in (
        (keys, text, "there"),
        (EncryptionKeys(NEW), text, "here"),
        (keys, tampered, "here"),
        (keys, text[:20], "here"),
        (keys, "\x01no", "here"),
    ):
        with pytest.raises(UnknownKey):
            ring.decrypt(sealed_text, place)


def test_of_several_keys_the_first_seals_and_all_open() -> None:
    old, both = EncryptionKeys(OLD), EncryptionKeys(f"{NEW}\n{OLD}\n")
    assert both.decrypt(old.encrypt("x", "here"), "here") == "x"
    assert not both.is_current(old.encrypt("x", "here"))
    assert both.is_current(both.encrypt("x", "here"))
    assert (both.encrypt("", "here"), both.decrypt("clear", "here")) == ("", "clear")


@pytest.mark.parametrize("text", ["", " ", "x", "0f" * 31, OLD + "0", f"{OLD} x"])
def test_what_is_no_key_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(ValueError, match="openssl rand -hex 32") as refused:
        EncryptionKeys(text)
    assert OLD not in str(refused.value)


def stored(path: Path) -> list[tuple[str, ...]]:
    """The secrets as stored in the file."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT url, token, auth_credentials FROM push_configs").fetchall()


async def test_secrets_in_clear_or_of_an_older_key_are_sealed_at_the_start(tmp_path: Path) -> None:
    stores = await open_stores(f"sqlite:///{tmp_path}/portico.db")
    clear = await with_encryption(stores.pushes, None)
    await clear.set(CONFIG)
    for number in range(250):
        await clear.set(replace(CONFIG, config_id=f"more{number}"))
    before = stored(tmp_path / "portico.db")
    assert set(before) == {SECRETS}
    for keys in (EncryptionKeys(OLD), EncryptionKeys(f"{NEW}, {OLD}"), EncryptionKeys(NEW)):
        pushes = await with_encryption(stores.pushes, keys)
        after = stored(tmp_path / "portico.db")
        assert all(keys.is_current(text) for row in after for text in row)
        assert all(secret not in "".join(row) for row in after for secret in SECRETS)
        await everything_works(pushes)
    # Overwritten values are not in the file any more either.
    await stores.close()
    content = (tmp_path / "portico.db").read_bytes()
    assert not any(secret.encode() in content for secret in SECRETS)


async def everything_works(pushes: PushStore) -> None:
    assert await pushes.get("r1", "c1") == CONFIG
    assert CONFIG in await pushes.list("r1", "", 10)
    assert CONFIG in await pushes.undelivered()
    assert CONFIG in await pushes.all(None, 10)
    assert await pushes.acknowledge("r1", "c1", "v1", -1, False)
    other = replace(CONFIG, run_id="r2", token="")
    await pushes.set(other)
    assert await pushes.get("r2", "c1") == other
    assert await pushes.delete("r2", "c1")


@pytest.mark.parametrize("keys", [None, EncryptionKeys(NEW)])
async def test_what_no_key_opens_stops_the_start_and_is_kept(
    tmp_path: Path, keys: EncryptionKeys | None
) -> None:
    stores = await open_stores(f"sqlite:///{tmp_path}/portico.db")
    await (await with_encryption(stores.pushes, EncryptionKeys(OLD))).set(CONFIG)
    before = stored(tmp_path / "portico.db")
    with pytest.raises(StoreUnavailable, match="PORTICO_CORE_STORE_KEY"):
        await with_encryption(stores.pushes, keys)
    assert stored(tmp_path / "portico.db") == before
    await stores.close()


async def test_a_core_seals_with_the_key_of_a_file(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/portico.db"
    stores: Stores = await open_stores(url)
    await stores.pushes.set(CONFIG)
    await stores.close()
    key = tmp_path / "key"
    key.write_text(f"{NEW}\n")

    def core(file: Path | None) -> CoreServer:
        listen = [f"unix:{tmp_path}/core.sock"]
        settings = CoreSettings(listen=listen, store=url, store_key_file=file, sandbox_backend="none")
        return CoreServer(scripted_agents(), settings)

    server = core(key)
    await server.start()
    await server.stop()
    assert all(map(is_encrypted, stored(tmp_path / "portico.db")[0]))
    with pytest.raises(StoreUnavailable, match="not configured"):
        await core(None).start()
    (tmp_path / "wrong").write_text("no key")
    with pytest.raises(ValueError, match="64 hexadecimal digits"):
        await core(tmp_path / "wrong").start()
    with pytest.raises(ValueError, match="set the same secret"):
        CoreSettings(store_key=NEW, store_key_file=key)  # type: ignore[arg-type]
