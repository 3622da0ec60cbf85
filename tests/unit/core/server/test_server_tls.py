"""TLS and mutual TLS of a core."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import ValidationError
from support.certificates import Authority

from portico.agent import AgentApp
from portico.client import Client, Unavailable
from portico.client.tls import channel_credentials
from portico.core.server.core_server import CoreServer
from portico.core.settings.core_settings import CoreSettings


def echo() -> AgentApp:
    app = AgentApp("echo")

    @app.query
    async def query(msgs: list[object]) -> AsyncIterator[str]:
        yield "hello"

    return app


@pytest.mark.parametrize("mutual", [False, True])
async def test_tcp_is_encrypted_and_unix_sockets_are_as_ever(tmp_path: Path, mutual: bool) -> None:
    authority, other = Authority(tmp_path), Authority(tmp_path, "other")
    cert, key = authority.issue("core")
    settings = CoreSettings(
        listen=["127.0.0.1:0", f"unix:{tmp_path}/core.sock"],
        store="memory://",
        drain_seconds=0,
        tls_cert=cert,
        tls_key=key,
        tls_client_ca=authority.file if mutual else None,
    )
    server = CoreServer([echo()], settings)
    await server.start()
    tcp, socket = server.addresses
    mine = dict(zip(("cert", "key"), authority.issue("client"), strict=True))
    foreign = dict(zip(("cert", "key"), other.issue("stranger"), strict=True))
    try:
        async with Client(tcp, tls=channel_credentials(authority.file, **mine)) as client:
            assert await client.runs.query("hi").text() == "hello"
        async with Client(socket) as client:
            assert await client.runs.query("hi").text() == "hello"
        async with Client(tcp, tls=channel_credentials(authority.file)) as client:
            assert await client.healthy() is not mutual
        refused = [Client(tcp), Client(tcp, tls=channel_credentials(other.file, **mine))]
        if mutual:
            refused.append(Client(tcp, tls=channel_credentials(authority.file, **foreign)))
        for stranger in refused:
            async with stranger:
                with pytest.raises(Unavailable):
                    await stranger.with_options(timeout=20).agents.get()
    finally:
        await server.stop()


@pytest.mark.parametrize(
    "given", [{"tls_cert": __file__}, {"tls_key": __file__}, {"tls_client_ca": __file__}]
)
def test_half_of_tls_is_refused(given: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match=r"go together|needs"):
        CoreSettings(store="memory://", **given)  # type: ignore[arg-type]


async def test_files_that_are_no_certificate_end_the_start(tmp_path: Path) -> None:
    files = {"tls_cert": tmp_path / "none.crt", "tls_key": tmp_path / "none.key"}
    for file in files.values():
        file.write_text("nothing")
    server = CoreServer([echo()], CoreSettings(listen=["127.0.0.1:0"], store="memory://", **files))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"none\.crt: is not a certificate \(PEM\)"):
        await server.start()


async def test_a_certificate_that_grpc_refuses_is_no_address_in_use(tmp_path: Path) -> None:
    cert, key = Authority(tmp_path).issue("core", curve=ec.SECP256K1())
    settings = CoreSettings(listen=["127.0.0.1:0"], store="memory://", tls_cert=cert, tls_key=key)
    with pytest.raises(ValueError, match=r"core\.crt: gRPC can't use this certificate"):
        await CoreServer([echo()], settings).start()


def test_a_mistake_in_the_settings_does_not_show_their_secrets() -> None:
    with pytest.raises(ValidationError) as caught:
        CoreSettings(store="memory://", auth=True, admin_key="my secret")  # type: ignore[arg-type]
    assert "my secret" not in str(caught.value)
