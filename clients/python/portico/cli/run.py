"""`portico run`: starts a core and the HTTP gateways as child processes, restarts and stops them.

A Unix socket connects them. This process owns the listening HTTP socket and passes it to the gateway, so
that no connection is refused while the gateway restarts.
"""

import asyncio
import errno
import ipaddress
import os
import signal
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.text import Text

from portico.cli.child_process import ChildProcess
from portico.cli.console import Console
from portico.process import inherited_state
from portico.process.core_socket import core_socket
from portico.telemetry.log import log_setup

START_SECONDS = 60.0
STOP_SECONDS = 20.0  # for a child, in addition to the core's drain
DRAIN_SECONDS = 10.0  # the core's default
CONNECT_SECONDS = 5.0
FEW_FILES = 256

console = Console(stderr=True, soft_wrap=True)


@dataclass(frozen=True, slots=True)
class RunOptions:
    """The options of `portico run`."""

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
        """The directory of the agent's file."""
        file = self.target if Path(self.target).is_file() else self.target.partition(":")[0]
        return Path(file).resolve().parent


def supervise(options: RunOptions) -> int:
    """Runs the processes until Ctrl-C or SIGTERM. Returns the exit status."""
    if log_setup.wants_json((), "PORTICO_CORE_LOG_FORMAT"):
        log_setup.configure(level="info", format="json", content=False, service="portico-run")
    try:
        return asyncio.run(_supervise(options))
    except OSError as error:
        console.print(f"portico run: {error}", style="red")
        return 1


async def _supervise(options: RunOptions) -> int:
    if (most := inherited_state.open_files()) < FEW_FILES:
        advice = "above the limit callers wait and sandboxes may fail; raise the limit (ulimit -n)"
        console.print(
            f"each process may have at most {most} files and connections open: {advice}", style="yellow"
        )
    folders = () if options.store else (_data_folder(options.data_dir),)
    listener = _listen(options.host, options.port)
    try:
        grpc_port = options.grpc_port or _free_port(options.host)
        with core_socket(*folders) as address:
            core = ChildProcess(
                "core",
                _core_command(options, grpc_port, address),
                patient=options.reload,
                stop_seconds=STOP_SECONDS + _drain_seconds(),
            )
            gateway = ChildProcess(
                "gateway",
                _gateway_command(options, address, listener.fileno()),
                pass_fds=(listener.fileno(),),
                stop_seconds=STOP_SECONDS,
            )
            return await _watch_over(options, core, gateway, listener.getsockname()[1], grpc_port)
    finally:
        listener.close()


def _data_folder(path: Path) -> Path:
    """Creates the data directory if necessary. Raises OSError."""
    try:
        folder = path.resolve()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(
            f"can't create the data directory {path}: {error.strerror}; choose another with --data-dir, "
            "or store nothing with --store memory://"
        ) from None
    return folder


def _core_command(options: RunOptions, grpc_port: int, address: str) -> Sequence[str]:
    store = options.store or f"sqlite:///{options.data_dir.resolve() / 'portico.db'}"
    listen = [f"--listen={_authority(options.host, grpc_port)}", f"--listen={address}"]
    command = ["-P", "-m", "portico.core", options.target, "--store", store, *listen, *_tls(options)]
    if options.reload or sys.stderr.isatty():
        # The developer edits the file or uses the terminal, so exceptions may show their texts.
        command.append("--log-content")
    if options.auth:
        command.append("--auth")
    if options.insecure_no_auth:
        command.append("--insecure-no-auth")
    return command


def _gateway_command(options: RunOptions, address: str, listener: int) -> Sequence[str]:
    command = ["-P", "-m", "portico.gateways", "all", "--core", address, "--host", options.host]
    command += ["--fd", str(listener), *_tls(options)]
    if options.insecure_no_auth:
        command.append("--insecure-no-auth")
    if options.a2a_grpc_port is not None:
        port = options.a2a_grpc_port or _free_port(options.host)
        command += ["--a2a-grpc-listen", _authority(options.host, port)]
    return command


def _tls(options: RunOptions) -> Sequence[str]:
    if options.tls_cert is None:
        return []
    return ["--tls-cert", str(options.tls_cert), "--tls-key", str(options.tls_key)]


def _drain_seconds() -> float:
    """Returns the core's drain time after SIGTERM in seconds; the core reports an invalid variable."""
    try:
        return max(0.0, float(os.environ.get("PORTICO_CORE_DRAIN_SECONDS", DRAIN_SECONDS)))
    except ValueError:
        return DRAIN_SECONDS


def _kill(*children: ChildProcess) -> None:
    for child in children:
        child.kill()


async def _watch_over(
    options: RunOptions, core: ChildProcess, gateway: ChildProcess, port: int, grpc_port: int
) -> int:
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in _stop_signals():
        loop.add_signal_handler(number, stopping.set)
    tasks = [asyncio.create_task(core.keep_up()), asyncio.create_task(gateway.keep_up())]
    announcing = asyncio.create_task(_announce(options, core, gateway, port, grpc_port))
    if options.reload:
        tasks.append(asyncio.create_task(_reload(options, core)))
    asked = asyncio.create_task(stopping.wait())
    try:
        done, _ = await asyncio.wait({asked, *tasks}, return_when=asyncio.FIRST_COMPLETED)
        if asked not in done:
            # A child that cannot be restarted ends the command; the child has reported the cause.
            return next(task.result() for task in done if task is not asked) or 1
        console.print("stopping; press Ctrl-C again to stop at once")
        for number in _stop_signals():
            loop.add_signal_handler(number, _kill, core, gateway)
        return 0
    finally:
        for task in (*tasks, announcing, asked):
            task.cancel()
        await asyncio.gather(*tasks, announcing, asked, return_exceptions=True)
        # The core first: its streams end so that they can be resumed, and the gateway passes that on.
        await core.stop()
        await gateway.stop()


def _stop_signals() -> Sequence[signal.Signals]:
    """Returns the signals that stop the command: with nohup without SIGHUP, which a closed terminal sends."""
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        return signal.SIGINT, signal.SIGTERM
    return signal.SIGINT, signal.SIGTERM, signal.SIGHUP


def _authority(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _listen(host: str, port: int) -> socket.socket:
    """Opens the listening HTTP socket. Raises OSError."""
    listener = _bound(host, port)
    listener.listen(4096)
    os.set_inheritable(listener.fileno(), True)
    address = listener.getsockname()
    if ipaddress.ip_address(address[0].partition("%")[0]).is_loopback:
        try:
            socket.create_connection(address[:2], CONNECT_SECONDS).close()
        except OSError as error:
            listener.close()
            reason = f"{error.strerror or error}; is the loopback interface up?"
            raise OSError(f"nobody can connect to {_authority(*address[:2])}: {reason}") from None
    return listener


def _bound(host: str, port: int) -> socket.socket:
    """Binds a socket to the host and port. Raises OSError."""
    try:
        # IPv4 first, because a name may resolve to both.
        for family, kind, protocol, _, address in sorted(
            socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        ):
            listener = socket.socket(family, kind, protocol)
            try:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind(address)
            except OSError as error:
                listener.close()
                problem = error
            else:
                return listener
        raise problem
    except OSError as error:
        reason = error.strerror or str(error)
        raise OSError(f"can't listen on {_authority(host, port)}: {reason}; {_advice(error)}") from None


def _advice(error: OSError) -> str:
    if error.errno == errno.EADDRNOTAVAIL:
        return "no active interface of this machine has this address; choose another with --host"
    if isinstance(error, socket.gaierror):
        return "choose another with --host"
    return "choose another with --port"


def _free_port(host: str) -> int:
    with _bound(host, 0) as probe:
        port: int = probe.getsockname()[1]
        return port


async def _announce(
    options: RunOptions, core: ChildProcess, gateway: ChildProcess, port: int, grpc_port: int
) -> None:
    """Prints the addresses once both processes serve."""
    try:
        async with asyncio.timeout(START_SECONDS):
            await core.ready.wait()
            await gateway.ready.wait()
    except TimeoutError:
        console.print("still not ready after a minute; see the messages above", style="yellow")
        return
    base = f"{'http' if options.tls_cert is None else 'https'}://{_authority(options.host, port)}"
    body = '{"input": "hello"}'
    target = _authority(options.host, grpc_port)
    console.print(
        Text("\nPortico", style="bold"),
        f"serves {options.target}\n"
        f"  HTTP  {base}   (its API: {base}/docs)\n"
        f"  gRPC  {target}\n"
        f"  A2A   {base}/.well-known/agent-card.json\n"
        f"  data  {options.store or options.data_dir}\n\n"
        f"try     curl -N {base}/process -H 'content-type: application/json' -d '{body}'\n"
        f"or      portico chat --core {target}\n",
    )


async def _reload(options: RunOptions, core: ChildProcess) -> int:
    from watchfiles import PythonFilter, awatch

    async for changes in awatch(options.folder, watch_filter=PythonFilter()):
        console.print(f"reloading: {', '.join(sorted(Path(name).name for _, name in changes))}")
        await core.restart()
    return 0
