"""`portico run`: a core and the HTTP gateways as child processes, started in order, kept up, ended in order.

Between them is a Unix socket. The listening HTTP socket belongs to this process
and is handed down, so that a gateway that is restarted refuses nobody.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import ssl
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from rich.text import Text

from portico.cli.child import Child
from portico.cli.console import Console

START_SECONDS = 60.0
SOCKET_PATH_BYTES = 100  # the kernel takes 107, less what gRPC adds

console = Console(stderr=True)


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What `portico run` was asked."""

    target: str
    host: str
    port: int
    grpc_port: int
    a2a_grpc_port: int | None
    data_dir: Path
    store: str
    reload: bool
    auth: bool = False
    insecure_no_auth: bool = False
    tls_cert: Path | None = None
    tls_key: Path | None = None

    @property
    def folder(self) -> Path:
        """Where the agent's file is."""
        file = self.target if Path(self.target).is_file() else self.target.partition(":")[0]
        return Path(file).resolve().parent


def supervise(options: RunOptions) -> int:
    """Run until Ctrl-C or SIGTERM. Returns the exit status."""
    try:
        return asyncio.run(_supervise(options))
    except OSError as error:
        console.print(f"portico run: {error}", style="red")
        return 1


async def _supervise(options: RunOptions) -> int:
    data_dir = options.data_dir.resolve()
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    listener = _listen(options.host, options.port)
    port = listener.getsockname()[1]
    grpc_port = options.grpc_port or _free_port(options.host)
    socket_dir = Path(tempfile.mkdtemp(prefix="portico-"))
    try:
        core_socket = f"unix:{socket_dir / 'core.sock'}"
        store = options.store or f"sqlite:///{data_dir / 'portico.db'}"
        listen = [f"--listen={options.host}:{grpc_port}", f"--listen={core_socket}"]
        arguments = ["-m", "portico.core", options.target, "--store", store, *listen]
        if options.reload:
            # Whoever edits the file is whose words an exception has.
            arguments.append("--log-content")
        if options.auth:
            arguments.append("--auth")
        if options.insecure_no_auth:
            arguments.append("--insecure-no-auth")
        tls = []
        if options.tls_cert is not None:
            tls = ["--tls-cert", str(options.tls_cert), "--tls-key", str(options.tls_key)]
        core = Child("core", arguments + tls, patient=options.reload)
        serve = ["-m", "portico.gateways", "all", "--core", core_socket]
        serve += ["--host", options.host, "--fd", str(listener.fileno()), *tls]
        if options.insecure_no_auth:
            serve.append("--insecure-no-auth")
        if options.a2a_grpc_port is not None:
            a2a_port = options.a2a_grpc_port or _free_port(options.host)
            serve += ["--a2a-grpc-listen", f"{options.host}:{a2a_port}"]
        gateway = Child("gateway", serve, pass_fds=(listener.fileno(),))
        return await _watch_over(options, core, gateway, port, grpc_port)
    finally:
        listener.close()
        shutil.rmtree(socket_dir, ignore_errors=True)


def _kill(*children: Child) -> None:
    for child in children:
        child.kill()


async def _watch_over(options: RunOptions, core: Child, gateway: Child, port: int, grpc_port: int) -> int:
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    tasks = [asyncio.create_task(core.keep_up()), asyncio.create_task(gateway.keep_up())]
    announcing = asyncio.create_task(_announce(options, port, grpc_port))
    if options.reload:
        tasks.append(asyncio.create_task(_reload(options, core)))
    asked = asyncio.create_task(stopping.wait())
    try:
        done, _ = await asyncio.wait({asked, *tasks}, return_when=asyncio.FIRST_COMPLETED)
        if asked not in done:
            # A child that can't be kept up ends the whole; it has said why.
            return next(task.result() for task in done if task is not asked) or 1
        console.print("stopping; press Ctrl-C again to stop at once")
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, _kill, core, gateway)
        return 0
    finally:
        for task in (*tasks, announcing, asked):
            task.cancel()
        await asyncio.gather(*tasks, announcing, asked, return_exceptions=True)
        # The core first: its streams end resumably and the gateway passes that on.
        await core.stop()
        await gateway.stop()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(4096)
    except OSError as error:
        listener.close()
        reason = error.strerror or str(error)
        raise OSError(f"can't listen on {host}:{port}: {reason}; choose another with --port") from None
    os.set_inheritable(listener.fileno(), True)
    return listener


def _free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


async def _announce(options: RunOptions, port: int, grpc_port: int) -> None:
    """Say where to go, once it answers."""
    until = time.monotonic() + START_SECONDS
    while not await _ready(options, port):
        if time.monotonic() > until:
            console.print("still not ready after a minute; see the messages above", style="yellow")
            return
        await asyncio.sleep(0.05)
    base = f"{'http' if options.tls_cert is None else 'https'}://{options.host}:{port}"
    body = '{"input": "hello"}'
    console.print(
        Text("\nPortico", style="bold"),
        f"serves {options.target}\n"
        f"  HTTP  {base}   (its API: {base}/docs)\n"
        f"  gRPC  {options.host}:{grpc_port}\n"
        f"  A2A   {base}/.well-known/agent-card.json\n"
        f"  data  {options.store or options.data_dir}\n\n"
        f"try     curl -N {base}/process -H 'content-type: application/json' -d '{body}'\n"
        f"or      portico chat --core {options.host}:{grpc_port}\n",
        soft_wrap=True,
    )


async def _ready(options: RunOptions, port: int) -> bool:
    tls = None
    if options.tls_cert is not None:
        # It is our own; whether others trust it is theirs to say.
        tls = ssl.create_default_context()
        tls.check_hostname = False
        tls.verify_mode = ssl.CERT_NONE
    with contextlib.suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
        async with asyncio.timeout(2):
            reader, writer = await asyncio.open_connection(options.host, port, ssl=tls)
            try:
                writer.write(b"GET /readiness HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
                return b" 200 " in await reader.readline()
            finally:
                writer.close()
    return False


async def _reload(options: RunOptions, core: Child) -> int:
    from watchfiles import PythonFilter, awatch

    async for changes in awatch(options.folder, watch_filter=PythonFilter()):
        console.print(f"reloading: {', '.join(sorted(Path(name).name for _, name in changes))}")
        await core.restart()
    return 0
