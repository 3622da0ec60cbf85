"""The reference and Portico, each serving the same scripts."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

HERE = Path(__file__).parent
PEER_PYTHON = HERE.parents[1] / ".peer/bin/python"
READY_SECONDS = 60


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "peer: needs AgentScope Runtime in .peer (`make peer`)")


@pytest.fixture(scope="session")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """AgentScope Runtime."""
    if not PEER_PYTHON.exists():
        pytest.fail(f"{PEER_PYTHON} is missing: run `make peer`")
    (port,) = _free_ports(1)
    command = [str(PEER_PYTHON), str(HERE / "app.py"), str(port)]
    with _serving(command, port, "/health", tmp_path_factory.mktemp("peer")) as client:
        yield client


@pytest.fixture(scope="session")
def portico(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """Portico."""
    port, rpc_port = _free_ports(2)
    directory = tmp_path_factory.mktemp("portico")
    command = [sys.executable, "-m", "portico.cli", "run", str(HERE / "portico_agent.py")]
    command += ["--port", str(port), "--grpc-port", str(rpc_port), "--data-dir", str(directory / "data")]
    with _serving(command, port, "/readiness", directory) as client:
        yield client


@contextmanager
def _serving(command: Sequence[str], port: int, ready: str, directory: Path) -> Iterator[httpx.Client]:
    log = directory / "output.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, cwd=directory)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            _wait_until_ready(process, client, ready, log)
            yield client
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_ready(process: subprocess.Popen[bytes], client: httpx.Client, path: str, log: Path) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if client.get(path).status_code == 200:
                return
        except httpx.TransportError:
            pass  # not listening yet
        time.sleep(0.1)
    pytest.fail(f"{process.args!r} is not ready; its output ends\n{log.read_text()[-4000:]}")


def _free_ports(count: int) -> Sequence[int]:
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports
