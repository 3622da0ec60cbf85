"""The command line: commands, options and their help."""

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from portico.cli.chat import chat
from portico.cli.forget import forget
from portico.cli.keys import keys
from portico.cli.run import RunOptions, supervise
from portico.cli.runs import runs
from portico.cli.sandboxes import sandbox
from portico.gateways.gateway_registry import GATEWAYS

app = typer.Typer(
    name="portico",
    help="Serve an agent, a Python function, over gRPC, SSE and more, with one durable log.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
)
gateway = typer.Typer(help="Start a gateway in front of a core.", no_args_is_help=True)
app.add_typer(gateway, name="gateway")
app.add_typer(keys, name="keys")
app.add_typer(runs, name="runs")
app.add_typer(sandbox, name="sandbox")
app.command()(chat)
app.command()(forget)

Target = Annotated[str, typer.Argument(metavar="FILE[:app]", help="The Python file with the AgentApp.")]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"portico {version('portico-runtime')}")
        raise typer.Exit


@app.callback()
def main(
    show_version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """The root of all commands."""


@app.command()
def run(
    target: Target,
    host: Annotated[str, typer.Option(help="Where HTTP and gRPC listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The HTTP gateways' port.", min=0, max=65535)] = 8090,
    grpc_port: Annotated[int, typer.Option(help="The core's gRPC port.", min=0, max=65535)] = 50051,
    a2a_grpc_port: Annotated[
        int | None,
        typer.Option(help="The port of A2A over gRPC; off by default.", min=0, max=65535),
    ] = None,
    data_dir: Annotated[Path, typer.Option(help="The directory for runs and sessions.")] = Path(".portico"),
    store: Annotated[
        str, typer.Option(help="Another store, by URL, such as memory://. Default: SQLite in the data dir.")
    ] = "",
    auth: Annotated[
        bool,
        typer.Option("--auth", help="Require a credential with every call; see docs/security.md."),
    ] = False,
    tls_cert: Annotated[
        Path | None, typer.Option(help="A certificate (PEM) for HTTPS and for gRPC with TLS.", exists=True)
    ] = None,
    tls_key: Annotated[
        Path | None, typer.Option(help="The certificate's private key (PEM).", exists=True)
    ] = None,
    insecure_no_auth: Annotated[
        bool, typer.Option("--insecure-no-auth", help="Serve other machines even without auth.")
    ] = False,
    reload: Annotated[bool, typer.Option("--reload", help="Restart the core when a file changes.")] = False,
) -> None:
    """Serve the agents of a file: run a core and the HTTP gateways, and restart them if they die."""
    if not Path(target).is_file() and not Path(target.partition(":")[0]).is_file():
        raise typer.BadParameter(f"there is no file {target.partition(':')[0]!r}", param_hint="FILE")
    if (tls_cert is None) != (tls_key is None):
        raise typer.BadParameter("--tls-cert and --tls-key go together: set both")
    options = RunOptions(
        target,
        host,
        port,
        grpc_port,
        a2a_grpc_port,
        data_dir,
        store,
        reload,
        auth=auth,
        insecure_no_auth=insecure_no_auth,
        tls_cert=tls_cert,
        tls_key=tls_key,
    )
    raise typer.Exit(supervise(options))


_PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def _become(*command: str) -> None:
    sys.stdout.flush()
    # Windows has no exec that keeps the console; there the command remains as the parent process.
    if sys.platform == "win32":
        raise typer.Exit(subprocess.call([sys.executable, *command]))  # noqa: S603
    os.execv(sys.executable, [sys.executable, *command])  # noqa: S606


@app.command(context_settings=_PASS_ON)
def core(context: typer.Context) -> None:
    """Start a core alone, on gRPC. `portico core --help` lists its options."""
    _become("-P", "-m", "portico.core", *context.args)


@app.command(context_settings=_PASS_ON)
def doctor(context: typer.Context) -> None:
    """Check a database and this machine for problems. `portico doctor --help` lists its options."""
    _become("-P", "-m", "portico.core.integrity.doctor", *context.args)


@sandbox.command("run", context_settings=_PASS_ON)
def sandbox_run(context: typer.Context) -> None:
    """Run Python, or a shell command, without a core. `portico sandbox run --help` lists its options."""
    _become("-P", "-m", "portico.sandbox", "run", *context.args)


@sandbox.command("build", context_settings=_PASS_ON)
def sandbox_build(context: typer.Context) -> None:
    """Build the image of the docker backend. `portico sandbox build --help` lists its options."""
    _become("-P", "-m", "portico.sandbox", "build", *context.args)


def _add_gateway(name: str, words: str) -> None:
    def start(context: typer.Context) -> None:
        _become("-P", "-m", "portico.gateways", name, *context.args)

    words = f"Start {words}. `portico gateway {name} --help` lists its options."
    gateway.command(name, help=words, context_settings=_PASS_ON)(start)


_add_gateway("all", "all gateways on one port")
for _name, _kind in GATEWAYS.items():
    _add_gateway(_name, f"the {_kind.title} gateway")
