"""`python -m portico.core FILE[:app]...`: one core process, until SIGTERM or SIGINT."""

import argparse
import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

from pydantic import SecretStr, ValidationError

from portico.core.errors import PorticoError
from portico.core.loading import LoadError, load_apps
from portico.core.server import CoreServer
from portico.core.settings import CoreSettings
from portico.telemetry import prometheus
from portico.telemetry.setup import Telemetry


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0 after a drain, 2 for a mistake in the call, 1 for what can't be served."""
    options = _parser().parse_args(arguments)
    given: dict[str, Any] = {
        name: value for name, value in vars(options).items() if value is not None and name != "targets"
    }
    try:
        settings = CoreSettings(**given)
    except ValidationError as error:
        print(f"portico core: {error}", file=sys.stderr)
        return 2
    logging.basicConfig(
        level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    logging.getLogger("alembic").setLevel(logging.WARNING)
    # The writer's thread must get its turn soon: the log commits while agents compute.
    sys.setswitchinterval(0.0005)
    try:
        apps = [app for target in options.targets for app in load_apps(target)]
        # After the agents' files: one of them may have set up OpenTelemetry in its own way.
        telemetry = Telemetry("portico-core", prometheus=bool(settings.metrics_listen))
    except (LoadError, ValueError) as error:
        print(f"portico core: {error}", file=sys.stderr)
        return 2
    return _run(CoreServer(apps, settings), settings, telemetry)


def _run(server: CoreServer, settings: CoreSettings, telemetry: Telemetry) -> int:
    import uvloop

    try:
        metrics = prometheus.served(settings.metrics_listen) if settings.metrics_listen else nullcontext()
        with metrics, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(server, telemetry))
    except (OSError, PorticoError, ValueError) as error:
        print(f"portico core: {error}", file=sys.stderr)
        return 1
    finally:
        telemetry.close()
    return 0


async def _serve(server: CoreServer, telemetry: Telemetry) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    await server.start()
    # What is there by now stays; a busy loop should not look through it again and again.
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    print(f"portico core: serving on {', '.join(server.addresses)}", file=sys.stderr, flush=True)
    await stopping.wait()
    await server.stop()
    if asyncio.all_tasks() - {asyncio.current_task()}:
        # An agent that can't be stopped would keep the process from ending.
        telemetry.close()
        logging.shutdown()
        os._exit(0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="portico core", description="Serve agents over gRPC.")
    parser.add_argument("targets", nargs="+", metavar="FILE[:app]", help="a file with an AgentApp")
    for name, field in CoreSettings.model_fields.items():
        if field.annotation == SecretStr | None:
            continue  # arguments can be read by everybody on the machine
        flag = f"--{name.replace('_', '-')}"
        if field.annotation == list[str]:
            parser.add_argument(flag, action="append", help=field.description)
        elif field.annotation is bool:
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, help=field.description)
        else:
            parser.add_argument(flag, help=f"{field.description} Default: {field.default}.")
    return parser


if __name__ == "__main__":
    sys.exit(main())
