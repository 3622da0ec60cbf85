"""`python -m portico.core.worker`: one agent's process. A core starts it, and it ends with its core."""

import argparse
import asyncio
import ctypes
import faulthandler
import os
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from portico.core.engine.error_words import ErrorWords
from portico.core.engine.local import LocalHost
from portico.core.engine.workers.inside import serve
from portico.core.loading import LoadError, load_apps
from portico.telemetry import logs, standard_error
from portico.telemetry.setup import Telemetry

PR_SET_PDEATHSIG = 1
OOM_SCORE = "500"  # where memory runs out, the kernel takes a worker and not its core


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status, 2 for an agent that can't be loaded; after that it ends with its group."""
    options = _parser().parse_args(arguments)
    _end_with(options.core)
    # An init system signals every process of a service at once; runs here end when the core says so. This is
    # a handler that does nothing, because what the agent starts would inherit that a signal is ignored.
    signal.signal(signal.SIGTERM, lambda number, frame: None)
    os.set_inheritable(options.socket, False)  # it is not for what the agent starts
    faulthandler.enable()
    logs.configure(
        level=options.log_level,
        format=options.log_format,
        content=options.log_content,
        service="portico-worker",
    )
    try:
        apps = {app.name: app for app in load_apps(options.file)}
        telemetry = Telemetry("portico-worker")
    except (LoadError, ValueError) as error:
        print(f"portico worker: {error}", file=sys.stderr)
        return 2
    if options.agent not in apps:
        print(f"portico worker: {options.file} has no agent {options.agent!r} any more", file=sys.stderr)
        return 2
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        app = apps[options.agent]
        words = ErrorWords(options.error_words)
        runner.run(serve(LocalHost([app], words), app, socket.socket(fileno=options.socket), words))
        telemetry.close()
        sys.stdout.flush()
        standard_error.release()
        # Agents' threads may still run, and what they have started; nobody waits for them any more.
        os.killpg(0, signal.SIGKILL)
    return 0


def _end_with(core: int) -> None:
    """Die when the core does, also when the agent keeps the event loop to itself."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != core:
        sys.exit(0)  # it was quicker
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(OOM_SCORE, encoding="ascii")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="portico worker", description="A core starts this.")
    parser.add_argument("socket", type=int)
    parser.add_argument("core", type=int)
    parser.add_argument("file")
    parser.add_argument("agent")
    parser.add_argument("--log-level", default="info")
    parser.add_argument("--log-format", default="human")
    parser.add_argument("--log-content", action="store_true")
    parser.add_argument("--error-words", default="log")
    return parser


if __name__ == "__main__":
    sys.exit(main())
