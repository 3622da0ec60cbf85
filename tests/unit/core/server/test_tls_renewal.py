"""A core uses a renewed certificate, and new authorities of clients, without a restart."""

import asyncio
import logging
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from support.a2a_gateways import scripted_agents
from support.certificates import Authority
from support.deployment import eventually
from support.measurements import measuring

from portico.client import Client, Unavailable
from portico.client.tls import channel_credentials
from portico.core.server.core_server import CoreServer
from portico.core.settings.core_settings import CoreSettings
from portico.process import file_reload


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_reload, "POLL_SECONDS", 0.05)


@asynccontextmanager
async def core(**tls: Path) -> AsyncIterator[CoreServer]:
    """A core with two TCP addresses: each must get the new certificate."""
    listen = ["127.0.0.1:0", "127.0.0.1:0"]
    given = {"store": "memory://", "drain_seconds": 0, "sandbox_backend": "none"}
    server = CoreServer(scripted_agents(), CoreSettings(listen=listen, **given, **tls))  # type: ignore[arg-type]
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


def served(address: str) -> int:
    """Serial number of the certificate on a new connection."""
    host, _, port = address.rpartition(":")
    return x509.load_pem_x509_certificate(
        ssl.get_server_certificate((host, int(port))).encode()
    ).serial_number


def serial(cert: Path) -> int:
    return x509.load_pem_x509_certificate(cert.read_bytes()).serial_number


async def shows(server: CoreServer, cert: Path) -> None:
    """Waits until every address has the certificate."""
    wanted = serial(cert)
    for address in server.addresses:
        async with asyncio.timeout(20):
            while await asyncio.to_thread(served, address) != wanted:
                await asyncio.sleep(0.05)


def replace(target: Path, source: Path) -> None:
    """Renames the new file to the old name, as tools that renew certificates do."""
    new = target.with_suffix(".new")
    new.write_bytes(source.read_bytes())
    os.replace(new, target)


async def test_a_renewed_certificate_is_shown_to_new_connections(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    cert, key = authority.issue("core")
    # A key of another type works too.
    newer = authority.issue("newer", curve=ec.SECP384R1(), days=(-0.01, 2.0))
    with measuring() as read:
        async with core(tls_cert=cert, tls_key=key) as server:
            await shows(server, cert)
            before = read()["portico.tls.certificate.expiry"]["server"]
            tls = channel_credentials(authority.file)
            async with Client(server.addresses[0], tls=tls) as client:
                waiting = client.runs.query("until " + str(tmp_path / "go"))
                await anext(aiter(waiting))
                for target, source in zip((cert, key), newer, strict=True):
                    replace(target, source)
                await shows(server, newer[0])
                # An existing connection stays.
                (tmp_path / "go").touch()
                assert (await waiting.text()).endswith("!")
            async with Client(server.addresses[1], tls=channel_credentials(authority.file)) as client:
                assert await client.healthy()
            after = read()["portico.tls.certificate.expiry"]["server"]
    assert after > before
    expiry = x509.load_pem_x509_certificate(newer[0].read_bytes()).not_valid_after_utc.timestamp()
    assert after == expiry


async def test_links_that_are_swapped_as_kubernetes_does(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        folder.mkdir()
    certs = [Authority(folder).issue("tls") for folder in folders]
    (tmp_path / "..data").symlink_to("one")
    for name in ("tls.crt", "tls.key"):
        (tmp_path / name).symlink_to(f"..data/{name}")
    async with core(tls_cert=tmp_path / "tls.crt", tls_key=tmp_path / "tls.key") as server:
        await shows(server, certs[0][0])
        (tmp_path / "..new").symlink_to("two")
        os.replace(tmp_path / "..new", tmp_path / "..data")
        await shows(server, certs[1][0])


def broken(kind: str, tmp_path: Path, cert: Path, key: Path) -> None:
    authority = Authority(tmp_path, "second")
    match kind:
        case "no certificate":
            cert.write_text("nothing")
        case "another's key":
            replace(key, authority.issue("stranger")[1])
        case "gone":
            cert.unlink()
        case "expired":
            for target, source in zip((cert, key), authority.issue("old", days=(-2.0, -1.0)), strict=True):
                replace(target, source)
        case "a directory":
            key.unlink()
            key.mkdir()


@pytest.mark.parametrize("kind", ["no certificate", "another's key", "gone", "expired", "a directory"])
async def test_a_broken_pair_leaves_the_one_before_and_is_reported_once(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    authority = Authority(tmp_path)
    cert, key = authority.issue("core")
    good = [file.read_bytes() for file in (cert, key)]
    wanted = serial(cert)
    with caplog.at_level(logging.INFO, "portico.process.file_reload"):
        async with core(tls_cert=cert, tls_key=key) as server:
            broken(kind, tmp_path, cert, key)
            await eventually(lambda: "stay in use" in caplog.text, 20)
            await asyncio.sleep(0.3)
            assert await asyncio.to_thread(served, server.addresses[0]) == wanted
            assert caplog.text.count("stay in use") == 1
            assert "Traceback" not in caplog.text
            # It recovers without a restart.
            if key.is_dir():
                key.rmdir()
            newer = authority.issue("newer")
            for target, source in zip((cert, key), newer, strict=True):
                target.write_bytes(source.read_bytes())
            await shows(server, newer[0])
    assert good[0] != cert.read_bytes()


async def test_new_authorities_of_clients_count_without_a_restart(tmp_path: Path) -> None:
    authority, other = Authority(tmp_path), Authority(tmp_path, "other")
    cert, key = authority.issue("core")
    trusted = tmp_path / "clients.pem"
    trusted.write_bytes(authority.file.read_bytes())
    old, new = authority.issue("old"), other.issue("new")

    async def good(server: CoreServer, pair: tuple[Path, Path]) -> bool:
        tls = channel_credentials(authority.file, cert=pair[0], key=pair[1])
        async with Client(server.addresses[0], tls=tls) as client:
            try:
                await client.with_options(timeout=10).agents.get()
            except Unavailable:
                return False
            return True

    async with core(tls_cert=cert, tls_key=key, tls_client_ca=trusted) as server:
        assert [await good(server, pair) for pair in (old, new)] == [True, False]
        replace(trusted, other.file)
        async with asyncio.timeout(30):
            while [await good(server, pair) for pair in (old, new)] != [False, True]:
                await asyncio.sleep(0.05)


async def test_files_that_are_half_replaced_are_looked_at_again(tmp_path: Path) -> None:
    looked: list[str] = []
    file = tmp_path / "file"
    file.write_text("1")

    def load() -> str:
        text = file.read_text()
        if text == "2":
            file.write_text("33")  # while it is read
        return text

    watched = file_reload.ReloadedFiles(file)
    file.write_text("2")
    following = asyncio.create_task(watched.follow(load, looked.append))
    await eventually(lambda: "33" in looked, 20)
    following.cancel()
    assert looked == ["33"]
