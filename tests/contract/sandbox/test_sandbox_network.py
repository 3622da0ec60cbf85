"""The network: none unless hosts are allowed, then only those hosts, at public addresses.

The proxy's refusals have tests of their own; these show that sandboxes of every backend use the proxy.
"""

import asyncio
from pathlib import Path

import pytest
from support.egress import LOOPBACK, origin, tls_origin

from portico.sandbox import errors
from portico.sandbox.backend import Backend
from portico.sandbox.spec import NetworkBounds, NetworkPolicy, Spec

PROXIED = {"no_proxy": "", "NO_PROXY": ""}  # use the proxy for loopback too
GET = """
import socket, ssl, urllib.request, urllib.error
def get(url):
    try:
        return urllib.request.urlopen(url, timeout=20).read().decode()
    except urllib.error.HTTPError as error:
        return f"{error.code} {error.read().decode()}"
    except OSError as error:
        return f"failed {error}"
def greet(host, port, name, pieces=1):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    session = context.wrap_bio(incoming, outgoing, server_hostname=name)
    with socket.create_connection(("127.0.0.1", 3128), 20) as s:
        s.sendall(f"CONNECT {host}:{port} HTTP/1.1\\r\\nHost: {host}:{port}\\r\\n\\r\\n".encode())
        if b" 200 " not in (head := s.recv(4096)):
            return head.decode()
        try:
            session.do_handshake()
        except ssl.SSLWantReadError:
            hello = outgoing.read()
        for start in range(0, len(hello), -(-len(hello) // pieces)):
            s.sendall(hello[start:start - (-len(hello) // pieces)])
        return s.recv(4096)[:7].hex()
"""


async def test_allowed_hosts_are_reached_and_others_are_not(backend: Backend, tmp_path: Path) -> None:
    async with origin() as host, origin() as other, tls_origin(tmp_path) as tls:
        hosts = (f"127.0.0.1:{host.port}", f"localhost:{tls.port}", "10.0.0.1", "169.254.169.254:80")
        box = await backend.create(Spec(network=NetworkPolicy(hosts, LOOPBACK), env=PROXIED))
        assert (await box.run_cell(GET)).ok

        async def said(call: str) -> str:
            result = await box.run_cell(call)
            assert result.ok, result.end
            return result.rich[0].data["text/plain"].decode()

        assert await said(f"get('http://127.0.0.1:{host.port}/a?b=c')") == "'ok'"
        assert host.text.startswith(f"GET /a?b=c HTTP/1.1\r\nHost: 127.0.0.1:{host.port}\r\n")
        assert "allow_hosts allow no plain HTTP" in await said(f"get('http://127.0.0.1:{other.port}/')")
        assert "other.test is not among" in await said("get('https://other.test/')")
        assert "not at a public address" in await said("get('http://10.0.0.1/')")
        assert "not at a public address" in await said("get('http://169.254.169.254/latest/meta-data')")
        for pieces in (1, 60):
            assert (await said(f"greet('localhost', {tls.port}, 'localhost', {pieces})")).startswith("'1603")
            assert await said(f"greet('localhost', {tls.port}, 'evil.test', {pieces})") == "'15030300020270'"
        assert tls.greeted == ["localhost"] * 2
        assert other.got == []
        assert len(host.got) == 1


async def test_loopback_is_opened_by_nobody_but_the_operator(backend: Backend) -> None:
    async with origin() as host:
        where = f"127.0.0.1:{host.port}"
        for bounds in (NetworkBounds(), NetworkBounds(deny=("127.0.0.1",), open=LOOPBACK.open)):
            box = await backend.create(Spec(network=NetworkPolicy((where,), bounds), env=PROXIED))
            result = await box.run_cell(f"{GET}\nget('http://{where}/')")
            assert result.rich[0].data["text/plain"].startswith(b"'403 127.0.0.1 is ")
        assert host.got == []


LISTENER = """
import socket, struct, threading
server = socket.create_server(("127.0.0.1", 8000), backlog=300)
kept = []
def serve():
    while True:
        peer, _ = server.accept()
        kept.append(peer)
threading.Thread(target=serve, daemon=True).start()
"""
RESET = """
while not kept: pass
peer = kept.pop(0)
peer.sendall(b"some")
import time; time.sleep(0.3)
peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
peer.close()
"""


async def test_a_connection_to_a_port_that_is_reset_has_no_clean_end(backend: Backend) -> None:
    box = await backend.create(Spec())
    try:
        await box.run_cell(LISTENER)
        connection = await box.connect(8000)
        assert (await box.run_cell(RESET)).end.error is None
        assert await connection.read() == b"some"
        with pytest.raises(errors.PortRefused):
            await connection.read()
    finally:
        await box.destroy()


async def test_connections_to_ports_are_counted(backend: Backend) -> None:
    box = await backend.create(Spec())
    try:
        await box.run_cell(LISTENER)
        opened = [await box.connect(8000) for _ in range(128)]
        with pytest.raises(errors.LimitExceeded) as caught:
            await box.connect(8000)
        assert caught.value.limit == "connections"
        await opened[0].close()
        await (await box.connect(8000)).close()
    finally:
        await box.destroy()


EARLY = """
import socket, threading, time
server = socket.create_server(("127.0.0.1", 8000))
def serve():
    peer, _ = server.accept()
    peer.recv(10)
    time.sleep(0.5)  # until it has more than it takes
    peer.sendall(b"too large")
    peer.close()
threading.Thread(target=serve, daemon=True).start()
"""


async def test_an_answer_before_the_question_has_ended_is_read(backend: Backend) -> None:
    box = await backend.create(Spec())
    try:
        await box.run_cell(EARLY)
        connection = await box.connect(8000)
        async with asyncio.timeout(60):
            for _ in range(64):
                await connection.write(b"x" * 65_536)
            assert await connection.read() == b"too large"
    finally:
        await box.destroy()
