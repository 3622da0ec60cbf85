"""HTTPS, TLS to the core, and refusal to serve other machines without auth: gateways as processes."""

import asyncio
import socket
import ssl
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import httpx
import pytest
from a2a.types import a2a_pb2, a2a_pb2_grpc
from support.certificates import Authority
from support.deployment import free_port
from support.identity import ADMIN_KEY
from support.serving import running_core

from portico.agent import AgentApp
from portico.core.server.core_server import CoreServer
from portico.core.settings.core_settings import CoreSettings
from portico.gateways.core_auth_check import is_loopback_host


def echo() -> AgentApp:
    app = AgentApp("echo")

    @app.query
    async def query(msgs: list[object]) -> AsyncIterator[str]:
        for word in ("hello ", "world"):
            yield word

    return app


async def gateway(*arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "portico.gateways", "all", *arguments), stderr=asyncio.subprocess.PIPE
    )


async def ready(http: httpx.AsyncClient, process: asyncio.subprocess.Process) -> None:
    async with asyncio.timeout(60):
        while True:
            assert process.returncode is None
            try:
                if (await http.get("/readiness")).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.05)


async def test_all_of_it_over_tls(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    cert, key = (str(file) for file in authority.issue("site"))
    core_cert, core_key = authority.issue("core")
    port, rpc = free_port(), free_port()
    tls = {"tls_cert": core_cert, "tls_key": core_key, "tls_client_ca": authority.file}
    address = f"127.0.0.1:{free_port()}"
    server = CoreServer(
        [echo()],
        CoreSettings(listen=[address], store="memory://", drain_seconds=0, **tls),  # type: ignore[arg-type]
    )
    await server.start()
    try:
        process = await gateway(
            *("--port", str(port), "--core", address, "--tls-cert", cert, "--tls-key", key),
            *("--core-tls", "--core-ca", str(authority.file), "--core-cert", cert, "--core-key", key),
            *("--a2a-grpc-listen", f"127.0.0.1:{rpc}"),
        )
        trusted = ssl.create_default_context(cafile=str(authority.file))
        base = f"https://127.0.0.1:{port}"
        try:
            async with httpx.AsyncClient(base_url=base, verify=trusted, timeout=20) as http:
                await ready(http, process)
                body = {"input": "hi"}
                answer = await http.post("/process", json=body)
                assert answer.text.count("data: ") > 5
                assert '"completed"' in answer.text
                card = (await http.get("/.well-known/agent-card.json")).json()
                assert card["supportedInterfaces"][0]["url"] == f"{base}/a2a"
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as plain:
                with pytest.raises(httpx.TransportError):
                    await plain.get("/readiness")
            credentials = grpc.ssl_channel_credentials(authority.file.read_bytes())
            async with grpc.aio.secure_channel(f"127.0.0.1:{rpc}", credentials) as channel:
                stub = a2a_pb2_grpc.A2AServiceStub(channel)  # type: ignore[no-untyped-call]
                listed = await stub.ListTasks(
                    a2a_pb2.ListTasksRequest(), metadata=[("a2a-version", "1.0")], timeout=20
                )
                assert len(listed.tasks) == 1
        finally:
            process.terminate()
            await process.communicate()
    finally:
        await server.stop()


@pytest.mark.parametrize("auth", [False, True])
async def test_other_machines_are_served_when_the_core_checks_who_calls(tmp_path: Path, auth: bool) -> None:
    given = {"auth": True, "admin_key": ADMIN_KEY} if auth else {}
    async with running_core([echo()], tmp_path, **given):
        port = free_port()
        listen = ("--core", f"unix:{tmp_path}/core.sock", "--host", "0.0.0.0", "--port", str(port))
        process = await gateway(*listen)
        try:
            if auth:
                async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
                    await ready(http, process)
            else:
                _, said = await asyncio.wait_for(process.communicate(), 60)
                assert process.returncode == 2
                assert b"0.0.0.0" in said
                assert b"--insecure-no-auth" in said
                process = await gateway(*listen, "--insecure-no-auth")
                async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
                    await ready(http, process)
        finally:
            if process.returncode is None:
                process.terminate()
                await process.communicate()


async def test_what_is_handed_down_and_a2as_own_port_count_too(tmp_path: Path) -> None:
    async with running_core([echo()], tmp_path):
        core = ("--core", f"unix:{tmp_path}/core.sock")
        with socket.create_server(("0.0.0.0", 0)) as listening:
            listening.set_inheritable(True)
            handed = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "portico.gateways", "sse", *core, "--fd", str(listening.fileno())),
                stderr=asyncio.subprocess.PIPE,
                pass_fds=[listening.fileno()],
            )
        a2a = await gateway(*core, "--port", str(free_port()), "--a2a-grpc-listen", f"0.0.0.0:{free_port()}")
        for process in (handed, a2a):
            _, said = await asyncio.wait_for(process.communicate(), 60)
            assert process.returncode == 2
            assert b"checks no credentials" in said


async def test_a_gateway_that_cant_be_opened_ends_and_says_why(tmp_path: Path) -> None:
    async with running_core([echo()], tmp_path):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            address = f"127.0.0.1:{taken.getsockname()[1]}"
            core = f"unix:{tmp_path}/core.sock"
            process = await gateway("--core", core, "--port", str(free_port()), "--a2a-grpc-listen", address)
            _, said = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 1
    assert f"can't listen on {address}: it is in use".encode() in said
    assert b"Traceback" not in said


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("example.com", False),
        ("", False),
    ],
)
def test_which_hosts_are_local(host: str, local: bool) -> None:
    assert is_loopback_host(host) is local
