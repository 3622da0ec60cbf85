"""`python -m portico.gateways sse`: one gateway process, until SIGTERM or SIGINT."""

import argparse
import gc
import logging
import sys
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from portico.gateways.serve import serve
from portico.gateways.sse.app import create_gateway
from portico.gateways.sse.settings import SseSettings


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0 after a stop, 2 for a mistake in the call."""
    options = vars(_parser().parse_args(arguments))
    host, port, fd = (options.pop(name) for name in ("host", "port", "fd"))
    del options["gateway"]
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    try:
        settings = SseSettings(**given)
    except ValidationError as error:
        print(f"portico gateway sse: {error}", file=sys.stderr)
        return 2
    logging.basicConfig(level="INFO", format="%(asctime)s %(levelname)s %(name)s %(message)s")
    gateway = create_gateway(settings)
    # What is there by now stays; a busy loop should not look through it again and again.
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    serve(gateway, host, port, fd)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="portico gateway", description="Serve a core over HTTP.")
    gateways = parser.add_subparsers(dest="gateway", required=True)
    sse = gateways.add_parser("sse", help="Server-Sent Events and REST")
    sse.add_argument("--host", default="127.0.0.1", help="Default: 127.0.0.1.")
    sse.add_argument("--port", type=int, default=8090, help="Default: 8090.")
    sse.add_argument("--fd", type=int, help="A listening socket that was handed down, instead.")
    for name, field in SseSettings.model_fields.items():
        flag = f"--{name.replace('_', '-')}"
        if name == "cors_origins":
            sse.add_argument(flag, nargs="*", help=field.description)
        else:
            sse.add_argument(flag, help=f"{field.description} Default: {field.default}.")
    return parser


if __name__ == "__main__":
    sys.exit(main())
