"""`python -m portico.core.hosts.worker`: the worker process of one agent, which the core starts and ends."""

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

from portico.core.hosts.base.app_loader import LoadError, load_apps
from portico.core.hosts.base.error_disclosure import ErrorDisclosure
from portico.core.hosts.local.local_host import LocalHost
from portico.core.hosts.worker.worker_runtime import serve
from portico.telemetry.log import log_setup, standard_error
from portico.telemetry.setup import Telemetry

PR_SET_PDEATHSIG = 1
OOM_SCORE = "500"  # if memory runs out, the kernel kills a worker before the core


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the worker. Returns the exit status 2 if the agent can't be loaded; otherwise it does not return,
    as it ends by killing its process group."""
    options = _parser().parse_args(arguments)
    _die_with_core(options.core)
    # An init system signals every process of a service at once; the core decides when runs here end. The
    # handler does nothing; SIG_IGN would be inherited by the processes that the agent starts.
    signal.signal(signal.SIGTERM, lambda number, frame: None)
    os.set_inheritable(options.socket, False)  # processes that the agent starts must not have it
    faulthandler.enable()
    log_setup.configure(
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
        print(f"portico worker: {options.file} no longer has an agent {options.agent!r}", file=sys.stderr)
        return 2
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        app = apps[options.agent]
        words = ErrorDisclosure(options.error_words)
        runner.run(serve(LocalHost([app], words), app, socket.socket(fileno=options.socket), words))
        telemetry.close()
        sys.stdout.flush()
        standard_error.release()
        # Agents' threads and child processes may still run; the core no longer waits for them.
        os.killpg(0, signal.SIGKILL)
    return 0


def _die_with_core(core: int) -> None:
    """Makes the kernel kill this process when the core dies, even while the agent blocks the event loop."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != core:
        sys.exit(0)  # the core has died already
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(OOM_SCORE, encoding="ascii")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="portico worker", description="Internal: started by the core.")
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
