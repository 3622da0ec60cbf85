"""Errors of failed TLS handshakes: real servers, real certificates."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from support.certificates import Authority

from portico.client import Client, HandshakeFailed, Multiplexer, SyncClient, query_request
from portico.client.errors import ClosedEarly, is_transient
from portico.client.streams import run_stream
from portico.client.tls import channel_credentials


@asynccontextmanager
async def server(
    cert: Path | None = None, key: Path | None = None, client_ca: Path | None = None
) -> AsyncIterator[str]:
    """Starts a gRPC server without methods; yields its address."""
    serving = grpc.aio.server()
    if cert is None or key is None:
        port = serving.add_insecure_port("127.0.0.1:0")
    else:
        root = None if client_ca is None else client_ca.read_bytes()
        pair = [(key.read_bytes(), cert.read_bytes())]
        port = serving.add_secure_port(
            "127.0.0.1:0", grpc.ssl_server_credentials(pair, root, root is not None)
        )
    await serving.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await serving.stop(0)


async def unary(client: Client) -> None:
    await client.agents.get()


async def streamed(client: Client) -> None:
    await client.runs.query("hi").text()


async def multiplexed(client: Client) -> None:
    async with Multiplexer(client) as streams:
        async for _ in streams.open_query(query_request("hi")):
            pass


CALLS: list[Callable[[Client], Awaitable[None]]] = [unary, streamed, multiplexed]


@pytest.mark.parametrize("call", CALLS)
async def test_a_certificate_that_is_refused_is_told_at_once(
    tmp_path: Path, call: Callable[[Client], Awaitable[None]]
) -> None:
    authority, other = Authority(tmp_path), Authority(tmp_path, "other")
    mistakes = [
        (authority.issue("expired", days=(-3, -1)), authority, "certificate has expired"),
        (authority.issue("future", days=(1, 2)), authority, "certificate is not yet valid"),
        (
            authority.issue("named", "else.example", local=False),
            authority,
            "does not cover the requested host name",
        ),
        (authority.issue("good"), other, "it is not signed by a trusted authority"),
    ]
    for files, trusted, words in mistakes:
        async with server(*files) as target, Client(target, tls=channel_credentials(trusted.file)) as client:
            with pytest.raises(
                HandshakeFailed, match=f"the core's certificate is refused: .*{words}"
            ) as caught:
                await call(client)
            assert caught.value.code is grpc.StatusCode.UNAVAILABLE
            assert not is_transient(caught.value)
            assert not await client.healthy()


async def test_what_does_not_speak_tls_is_told(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    async with server() as target, Client(target, tls=channel_credentials(authority.file)) as client:
        with pytest.raises(HandshakeFailed, match="does not speak TLS at this address"):
            await client.runs.query("hi").text()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("web"))
    web = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0, ssl=context)
    target = f"127.0.0.1:{web.sockets[0].getsockname()[1]}"
    async with web, Client(target, tls=channel_credentials(authority.file)) as client:
        with pytest.raises(HandshakeFailed, match="is not a core: it speaks TLS but not HTTP/2"):
            await client.runs.query("hi").text()


async def test_a_core_that_wants_a_certificate_of_the_client_may_be_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_stream, "_START_SECONDS", 3600.0)
    authority, other = Authority(tmp_path), Authority(tmp_path, "other")
    cert, key = other.issue("stranger")
    async with server(*authority.issue("core"), authority.file) as target:
        for tls in (
            None,
            channel_credentials(authority.file),
            channel_credentials(authority.file, cert=cert, key=key),
        ):
            async with Client(target, tls=tls) as client:
                with pytest.raises(ClosedEarly, match="it may require TLS, or a client certificate"):
                    await client.agents.get()
                if tls is not None:
                    # The client would wait for a core that may come back.
                    with pytest.raises(ClosedEarly):
                        await client.runs.query("hi", resume_timeout=3600).text()


def test_the_synchronous_client_is_told_the_same(tmp_path: Path) -> None:
    authority, other = Authority(tmp_path), Authority(tmp_path, "other")

    async def main() -> None:
        async with server(*authority.issue("core")) as target:
            await asyncio.to_thread(ask, target)

    def ask(target: str) -> None:
        with (
            SyncClient(target, tls=channel_credentials(other.file)) as client,
            pytest.raises(HandshakeFailed, match="not signed by a trusted authority"),
        ):
            client.runs.query("hi").text()

    asyncio.run(main())


def test_files_that_cant_be_used_are_refused_before_any_call(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    cert, key = authority.issue("client", days=(-3, -1))
    with pytest.raises(ValueError, match=r"client\.key: is not a certificate"):
        channel_credentials(key)
    with pytest.raises(ValueError, match=r"client\.crt: expired on"):
        channel_credentials(authority.file, cert=cert, key=key)
    with pytest.raises(ValueError, match="go together"):
        channel_credentials(authority.file, cert=cert)
