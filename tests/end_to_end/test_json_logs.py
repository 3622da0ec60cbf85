"""With JSON logs every line of standard error is an object, from every writer and after every failure."""

import json
import os
import socket
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.certificates import Authority
from support.deployment import Deployment, ask, free_port

from portico.client import Client, Unavailable
from portico.client.tls import channel_credentials

NOISY = Path(__file__).parent / "agents" / "noisy.py"
JSON = {"PORTICO_CORE_LOG_FORMAT": "json", "PORTICO_HTTP_LOG_FORMAT": "json"}
PEERS = 30  # connections without a certificate


def parsed(text: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in text.splitlines()]
    assert all({"time", "level", "service", "logger", "message"} <= line.keys() for line in lines)
    return lines


@pytest.mark.parametrize(
    ("module", "arguments", "environment"),
    [
        ("portico.core", [str(NOISY), "--live-runs", "many"], {"PORTICO_CORE_LOG_FORMAT": "json"}),
        ("portico.core", [str(NOISY), "--log-format", "json", "--nonsense"], {}),
        ("portico.core", ["/nowhere.py", "--log-format=json"], {}),
        (
            "portico.core",
            [str(NOISY), "--log-format", "json", "--store", "memory://", "--listen", "9.9.9.9:1"],
            {},
        ),
        ("portico.core", [str(NOISY), "--log-format", "json", "--auth", "--store", "memory://"], {}),
        ("portico.gateways", ["all", "--log-format", "json", "--port", "99999"], {}),
        (
            "portico.gateways",
            ["sse", "--host", "9.9.9.9", "--insecure-no-auth"],
            {"PORTICO_SSE_LOG_FORMAT": "json"},
        ),
        (
            "portico.gateways",
            ["all", "--core-tls", "--core-ca", __file__],
            {"PORTICO_HTTP_LOG_FORMAT": "json"},
        ),
        ("portico.gateways", ["all", "--a2a-grpc-listen", "x"], {"PORTICO_HTTP_LOG_FORMAT": "json"}),
    ],
)
def test_a_mistake_that_ends_a_process_is_json(
    module: str, arguments: list[str], environment: dict[str, str]
) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=100,
    )
    assert ended.returncode in (1, 2), ended.stderr
    assert parsed(ended.stderr)


def strange_peers(target: str, authority: Authority) -> None:
    """Makes connections that fail in the handshake of a server that requires certificates: plain, and without
    one.
    """
    host, _, port = target.rpartition(":")
    context = ssl.create_default_context(cafile=str(authority.file))
    for number in range(PEERS):
        with socket.create_connection((host, int(port)), 10) as plain:
            if number % 2:
                plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
                continue
            try:
                with context.wrap_socket(plain, server_hostname=host) as secure:
                    secure.recv(1)
            except (ssl.SSLError, OSError):
                pass


async def test_every_line_of_every_process_is_json(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    cert, key = authority.issue("site")
    environment = {
        **JSON,
        "PORTICO_CORE_TLS_CLIENT_CA": str(authority.file),
        "PORTICO_CORE_DRAIN_SECONDS": "0",
    }
    port, rpc = free_port(), free_port()
    log = tmp_path / "log"
    command = [
        *(sys.executable, "-m", "portico.cli", "run", str(NOISY), "--data-dir", str(tmp_path)),
        *("--port", str(port), "--grpc-port", str(rpc), "--tls-cert", str(cert), "--tls-key", str(key)),
    ]
    trusted = ssl.create_default_context(cafile=str(authority.file))
    with log.open("wb") as written:
        process = subprocess.Popen(command, stderr=written, env={**os.environ, **environment}, cwd=tmp_path)
    try:
        base = f"https://127.0.0.1:{port}"
        async with httpx.AsyncClient(base_url=base, verify=trusted, timeout=60) as http:
            await ready(http, process)
            assert "done" in (await http.post("/process", json=ask("hi"))).text
        strange_peers(f"127.0.0.1:{rpc}", authority)
        with socket.create_connection(("127.0.0.1", port), 10) as plain:
            plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
        for tls in (None, channel_credentials(authority.file)):
            async with Client(f"127.0.0.1:{rpc}", tls=tls) as client:
                with pytest.raises(Unavailable):
                    await client.agents.get()
    finally:
        process.terminate()
        assert process.wait(60) == 0
    text = log.read_text()
    lines = parsed(text)
    assert {line["service"] for line in lines} == {"portico-core", "portico-run"}
    said = "\n".join(f"{line['message']}\n{line.get('exception', '')}" for line in lines)
    for words in (
        "printed",
        "and a line more, \ufffd",
        "said by a child",
        "in two lines",
        "{no JSON}",
        "ValueError",
    ):
        assert words in said
    # The first line of each place in gRPC's code at which any peer can cause output.
    handshakes = [line for line in lines if line["logger"] == "grpc"]
    assert "Handshake failed" in handshakes[0]["message"]
    assert len(handshakes) < PEERS / 2


async def ready(http: httpx.AsyncClient, process: subprocess.Popen[bytes]) -> None:
    """Waits until the gateway and its core serve."""
    while True:
        assert process.poll() is None
        try:
            if (await http.get("/readiness")).status_code == 200:
                return
        except httpx.TransportError:
            pass


def test_a_supervisor_tells_of_its_children_in_json(tmp_path: Path) -> None:
    deployment = Deployment(NOISY, tmp_path, env=JSON)
    deployment.kill("portico.core")
    deployment.wait_ready()
    deployment.stop()
    lines = parsed(deployment.log.read_text())
    assert any(line["service"] == "portico-run" and "core ended" in line["message"] for line in lines)
