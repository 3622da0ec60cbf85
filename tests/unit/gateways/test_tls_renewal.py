"""A gateway's certificates and trusted authorities change without a restart: a gateway as a process."""

import asyncio
import os
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from support.a2a_gateways import scripted_agents
from support.certificates import Authority
from support.deployment import free_port

from portico.core.server.core_server import CoreServer
from portico.core.settings.core_settings import CoreSettings


@asynccontextmanager
async def core(address: str, **tls: Path) -> AsyncIterator[None]:
    given = {"store": "memory://", "drain_seconds": 0, "sandbox_backend": "none"}
    server = CoreServer(scripted_agents(), CoreSettings(listen=[address], **given, **tls))  # type: ignore[arg-type]
    await server.start()
    try:
        yield
    finally:
        await server.stop()


def replace(target: Path, source: Path) -> None:
    new = target.with_suffix(".new")
    new.write_bytes(source.read_bytes())
    os.replace(new, target)


def served(port: int) -> int:
    """Returns the serial number of the certificate for a client that names no host, only an address."""
    shown = ssl.get_server_certificate(("127.0.0.1", port))
    return x509.load_pem_x509_certificate(shown.encode()).serial_number


async def shows(port: int, cert: Path) -> None:
    wanted = x509.load_pem_x509_certificate(cert.read_bytes()).serial_number
    async with asyncio.timeout(60):
        while await asyncio.to_thread(served, port) != wanted:
            await asyncio.sleep(0.1)


async def ready(http: httpx.AsyncClient) -> None:
    async with asyncio.timeout(60):
        while True:
            try:
                if (await http.get("/readiness")).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.1)


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1()], ids=["same kind", "another kind"])
async def test_what_a_gateway_shows_and_trusts_is_renewed(tmp_path: Path, curve: ec.EllipticCurve) -> None:
    authority, other = Authority(tmp_path), Authority(tmp_path, "other")
    core_pair, site, mine = (authority.issue(name) for name in ("core", "site", "gateway"))
    trusted = tmp_path / "trusted.pem"
    trusted.write_bytes(authority.file.read_bytes())
    port, rpc, address = free_port(), free_port(), f"127.0.0.1:{free_port()}"
    arguments = [
        *("--port", str(port), "--core", address, "--a2a-grpc-listen", f"127.0.0.1:{rpc}"),
        *("--tls-cert", str(site[0]), "--tls-key", str(site[1])),
        *("--core-tls", "--core-ca", str(trusted), "--core-cert", str(mine[0]), "--core-key", str(mine[1])),
        *("--metrics", "true"),
    ]
    both = ssl.create_default_context(cafile=str(authority.file))
    both.load_verify_locations(str(other.file))
    process = None
    try:
        async with httpx.AsyncClient(base_url=f"https://127.0.0.1:{port}", verify=both, timeout=20) as http:
            pair = dict(zip(("tls_cert", "tls_key"), core_pair, strict=True))
            async with core(address, **pair, tls_client_ca=authority.file):
                process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-m",
                    "portico.gateways",
                    "all",
                    *arguments,
                    stderr=asyncio.subprocess.PIPE,
                )
                await ready(http)
                newer = other.issue("newer", curve=curve)
                for target, source in zip(site, newer, strict=True):
                    replace(target, source)
                await shows(port, newer[0])
                await shows(rpc, newer[0])
                await ready(http)
                # The next core's certificate is from another authority, and it trusts that one only.
                for target, source in zip(mine, other.issue("renewed"), strict=True):
                    replace(target, source)
                replace(trusted, other.file)
                assert process.stderr is not None
                async with asyncio.timeout(60):
                    while str(trusted).encode() not in await process.stderr.readline():
                        pass
                metrics = (await http.get("/metrics")).text
                for certificate in ("server", "client"):
                    assert f'portico_tls_certificate_expiry_seconds{{certificate="{certificate}"' in metrics
            pair = dict(zip(("tls_cert", "tls_key"), other.issue("core"), strict=True))
            async with core(address, **pair, tls_client_ca=other.file):
                await ready(http)
                answer = await http.post("/process", json={"input": "echo hi"})
                assert '"completed"' in answer.text
    finally:
        if process is not None:
            process.terminate()
            await process.communicate()
