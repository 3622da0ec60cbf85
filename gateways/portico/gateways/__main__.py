"""`python -m portico.gateways NAME`: runs one gateway process until SIGTERM or SIGINT."""

import gc
import os
import sys

from portico.process import container_init, inherited_state

if __name__ == "__main__":
    inherited_state.repair_inherited_state()
    container_init.fork_from_process_one()
    # Imported modules live until the process ends. Scanning them again and again takes a quarter of the
    # start-up time.
    gc.disable()
    # A gateway has no database. The A2A SDK's stores are unused here and work without SQLAlchemy; importing
    # it takes a tenth of the start-up time.
    sys.modules.setdefault("sqlalchemy", None)  # type: ignore[arg-type]

# Must be set before gRPC is imported: see portico.core.__main__.
os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_client,-event_engine_listener")

import argparse
import asyncio
import logging
import socket
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any, TypeVar

from pydantic.fields import FieldInfo

from portico.gateways.core_auth_check import (
    CoreUnreachable,
    UnprotectedGatewayError,
    check_core_auth,
    is_loopback_host,
)
from portico.gateways.gateway_registry import GATEWAYS, GatewayMissing
from portico.gateways.http.core_connection import core_credentials
from portico.gateways.http.settings import HttpSettings
from portico.gateways.http.site import GatewaySite
from portico.gateways.serve import serve
from portico.process import certificates, readiness, secrets, unknown_variables
from portico.process.settings import LAST_PORT, flag, read, variable
from portico.telemetry.log import log_setup
from portico.telemetry.setup import Telemetry

log = logging.getLogger("portico.gateways")
SERVICE = "portico-gateway"
Settings = TypeVar("Settings", bound=HttpSettings)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a gateway until it is stopped.

    Args:
        arguments: The command line without the program name; `sys.argv` by default.

    Returns:
        The exit status: 0 after a regular stop, 2 for an error that a restart cannot fix, 1 for an error that
            may have gone at the next start.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    kind = GATEWAYS.get(arguments[0]) if arguments else None
    asked = HttpSettings if kind is None else kind.settings()
    if log_setup.wants_json(arguments, variable(asked, "log_format")):
        # for errors of the argument parser
        log_setup.configure(level="info", format="json", content=False, service=SERVICE)
    options = vars(_parser().parse_args(arguments))
    name, host, port, fd, ready_fd = (
        options.pop(option) for option in ("gateway", "host", "port", "fd", "ready_fd")
    )
    given: dict[str, Any] = {option: value for option, value in options.items() if value is not None}
    try:
        # An inherited socket is already bound; `host` is then only the name that clients use for it.
        listening = [host] if fd is None else [host, _host_of(fd)]
        site = make_site(name, given, listening)
        _check_certificates(site)
        _check_exposure(site, listening[-1])
        telemetry = Telemetry(SERVICE, prometheus=site.measured)
    except (OSError, ValueError, UnprotectedGatewayError, GatewayMissing) as error:
        print(f"portico gateway {name}: {error}", file=sys.stderr)
        return 2
    except CoreUnreachable as error:
        print(f"portico gateway {name}: {error}", file=sys.stderr)
        return 1
    # Objects that exist now live until the process ends; the collector should not scan them while serving.
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    gc.enable()
    try:
        return 0 if serve(site, host, port, fd, partial(readiness.tell, ready_fd)) else 1
    finally:
        telemetry.close()


def make_site(name: str, given: Mapping[str, Any], listening: Sequence[str] = ()) -> GatewaySite:
    """Builds the site of one gateway, or of all.

    Args:
        name: A key of GATEWAYS, or `all`.
        given: Settings from the command line, by option name; the rest comes from the environment.
        listening: The hosts on which the site serves HTTP.

    Raises:
        Misconfigured: A setting is invalid.
        GatewayMissing: The gateway needs a package that is not installed. `all` leaves such a gateway out
            instead.
    """
    if name != "all":
        kind = GATEWAYS[name]
        settings = kind.settings()
        one = read(settings, given)
        _log(one)
        _warn([one], settings, HttpSettings)
        return GatewaySite([kind.factory()(one)], one, _other_hosts(one), listening=listening)
    shared = {option: value for option, value in given.items() if option in HttpSettings.model_fields}
    common = read(HttpSettings, shared)
    _log(common)
    gateways, hosts, read_ones = [], [], [common]
    for gateway, kind in GATEWAYS.items():
        prefix = f"{gateway}_"
        own = {option.removeprefix(prefix): v for option, v in given.items() if option.startswith(prefix)}
        one = with_common(read(kind.settings(), {**shared, **own}, partial(_flag_of_all, gateway)), common)
        read_ones.append(one)
        try:
            gateways.append(kind.factory()(one))
        except GatewayMissing as error:
            log.warning("no %s gateway: %s", kind.title, error)
            continue
        hosts += _other_hosts(one)
    _warn(read_ones, HttpSettings, *(kind.settings() for kind in GATEWAYS.values()))
    return GatewaySite(gateways, common, hosts, listening=listening)


def with_common(settings: Settings, common: HttpSettings) -> Settings:
    """Returns the settings with the site's allowed origins and hosts added to the gateway's own."""
    lists = {
        name: list(dict.fromkeys([*getattr(common, name), *getattr(settings, name)]))
        for name in ("cors_origins", "allowed_hosts")
    }
    return settings.model_copy(update=lists)


def _flag_of_all(gateway: str, field: str) -> str:
    """Returns the option's name when all gateways run in one process."""
    return flag(field if field in HttpSettings.model_fields else f"{gateway}-{field}")


def _warn(given: Sequence[HttpSettings], *settings: type[HttpSettings]) -> None:
    found = chain(
        unknown_variables.find_unknown_variables(settings, strangers=False),
        *map(secrets.exposed_secret_files, given),
    )
    for sentence in found:
        log.warning("%s", sentence)


def _log(settings: HttpSettings) -> None:
    """Sets up logging. Must run before the gateways are made, since MCP's SDK would set up logging its own
    way.
    """
    log_setup.configure(
        level=settings.log_level,
        format=settings.log_format,
        content=settings.log_content,
        service=SERVICE,
    )


def _other_hosts(settings: HttpSettings) -> list[str]:
    """Returns the hosts on which a gateway listens in addition to HTTP."""
    addresses = settings.other_addresses()
    return [address.rpartition(":")[0] for address in addresses if not address.startswith("unix:")]


def _host_of(fd: int) -> str:
    """Returns the host that an inherited socket is bound to. Raises OSError."""
    with socket.socket(fileno=os.dup(fd)) as listening:
        return str(listening.getsockname()[0])


def _check_certificates(site: GatewaySite) -> None:
    """Raises ValueError for a certificate or key file that is unusable now."""
    for settings in (site.settings, *(gateway.settings for gateway in site.gateways)):
        if settings.tls_cert is not None and settings.tls_key is not None:
            certificates.check(settings.tls_cert, settings.tls_key)
    core_credentials(site.settings)


def _check_exposure(site: GatewaySite, host: str) -> None:
    """Raises UnprotectedGatewayError when other machines can reach the site and the core checks no
    credentials, and CoreUnreachable when the core does not answer.
    """
    open_to_all = [one for one in (host, *site.other_hosts) if not is_loopback_host(one)]
    if open_to_all and not site.settings.insecure_no_auth:
        tls = core_credentials(site.settings)
        asyncio.run(check_core_auth(site.settings.core, open_to_all[0], tls))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="portico gateway", description="Serve a core over HTTP.")
    gateways = parser.add_subparsers(dest="gateway", required=True)
    everything = _add(gateways, "all", "all gateways on one port", HttpSettings)
    for name, kind in GATEWAYS.items():
        settings = kind.settings()
        _add(gateways, name, kind.description, settings)
        own = {
            key: field for key, field in settings.model_fields.items() if key not in HttpSettings.model_fields
        }
        _options(everything, own, f"{name}-")
    return parser


def _add(gateways: Any, name: str, words: str, settings: type[HttpSettings]) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = gateways.add_parser(name, help=words)
    parser.add_argument("--host", default="127.0.0.1", help="Host to listen on. Default: 127.0.0.1.")
    parser.add_argument(
        "--port", type=_port, default=8090, help="Port to listen on; 0 for any free port. Default: 8090."
    )
    parser.add_argument(
        "--fd",
        type=int,
        help="File descriptor of an inherited listening socket, used instead of host and port.",
    )
    readiness.add_option(parser)
    _options(parser, settings.model_fields)
    return parser


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= LAST_PORT:
        raise argparse.ArgumentTypeError(f"{text} is not a port; expected 0 to {LAST_PORT}")
    return port


def _options(parser: argparse.ArgumentParser, fields: Mapping[str, FieldInfo], prefix: str = "") -> None:
    for option, field in fields.items():
        if secrets.is_secret(field):
            continue  # every user of the machine can read a process's arguments
        flag = f"--{prefix}{option.replace('_', '-')}"
        if field.annotation == list[str]:
            parser.add_argument(flag, nargs="*", help=field.description)
        elif field.annotation is bool:
            # The bare option means true.
            parser.add_argument(flag, nargs="?", const="true", help=field.description)
        else:
            # Options left out are read from the environment, under each gateway's own prefix.
            parser.add_argument(flag, help=f"{field.description} Default: {field.default}.")


if __name__ == "__main__":
    sys.exit(main())
