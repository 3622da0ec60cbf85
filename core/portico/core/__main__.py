"""`python -m portico.core FILE[:app]...`: the core process; runs until SIGTERM or SIGINT."""

import gc
import os

from portico.process import container_init, inherited_state

if __name__ == "__main__":
    inherited_state.repair_inherited_state()
    container_init.fork_from_process_one()
    # Imported objects stay for the process's life; collecting garbage among them would take a quarter of the
    # start.
    gc.disable()

# Set before gRPC is imported. Starting a child process (a sandbox above all) forks this process, and gRPC's
# fork handlers would start gRPC's threads again in the fork.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
# With these experiments off, the thread that waits for a message reads it from the socket itself. That saves
# three wake-ups on each side: 0.1 to 0.2 ms of a round trip.
os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_client,-event_engine_listener")

import argparse
import asyncio
import logging
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from portico.core.errors import DomainError, FencedOut
from portico.core.hosts.base.agent_host import AgentStartFailed
from portico.core.hosts.base.app_loader import LoadError, load_apps
from portico.core.server.core_server import CoreServer
from portico.core.services.rpc import audit_log
from portico.core.settings.core_settings import CoreSettings
from portico.process import readiness, secrets, unknown_variables
from portico.process.settings import Misconfigured, named, read, variable
from portico.process.shutdown_signals import ShutdownSignals
from portico.telemetry.log import line_writer, log_setup, standard_error
from portico.telemetry.setup import Telemetry

log = logging.getLogger("portico.core")
SERVICE = "portico-core"
EXIT_FENCED_OUT = (
    3  # exit status; a supervisor must not restart: that would take the database from the new owner
)

START_SECONDS = 5.0  # longest time from a signal to the end while agents are being initialised
SHUTDOWN_SECONDS = 10.0  # the same while the core serves, added to the drain time
CANCEL_GRACE_SECONDS = 2.0  # wait for cancelled tasks and for threads at the end


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the core.

    Returns:
        The exit status: 0 after a drain; 2 for an error in arguments, variables or files, which a restart
        does not mend; 1 for an error that a restart may mend; EXIT_FENCED_OUT when another core owns
        the database.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    if log_setup.wants_json(arguments, variable(CoreSettings, "log_format")):
        # Errors in the settings must be JSON too.
        log_setup.configure(level="info", format="json", content=False, service=SERVICE)
    options = vars(_parser().parse_args(arguments))
    targets, ready_fd = options.pop("targets"), options.pop("ready_fd")
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    try:
        settings = read(CoreSettings, given)
    except Misconfigured as error:
        return _report_error(error, 2)
    log_setup.configure(
        level=settings.log_level,
        format=settings.log_format,
        content=settings.log_content,
        service=SERVICE,
    )
    for sentence in (
        *unknown_variables.find_unknown_variables([CoreSettings], strangers=True),
        *secrets.exposed_secret_files(settings),
    ):
        log.warning("%s", sentence)
    # The database writer's thread must get the interpreter soon: it commits the log while agents compute.
    sys.setswitchinterval(0.0005)
    try:
        apps = [app for target in targets for app in load_apps(target)]
        # After the agents' files are loaded: one of them may have set up OpenTelemetry itself.
        telemetry = Telemetry(SERVICE, prometheus=bool(settings.metrics_listen))
        server = CoreServer(apps, settings)
    except (LoadError, ValueError) as error:
        return _report_error(error, 2)
    return _run(server, settings, telemetry, ready_fd)


def _run(server: CoreServer, settings: CoreSettings, telemetry: Telemetry, ready_fd: int | None) -> int:
    import uvloop

    with ExitStack() as closing:
        closing.callback(telemetry.close)
        try:
            if settings.metrics_listen:
                from portico.telemetry.metrics import prometheus

                closing.enter_context(prometheus.served(settings.metrics_listen))
            if settings.audit_log:
                closing.enter_context(_writing_audit_log(Path(settings.audit_log)))
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(_serve(server, closing, ready_fd, settings.drain_seconds))
        except FencedOut as error:
            return _report_error(error, EXIT_FENCED_OUT)
        except ValueError as error:
            return _report_error(error, 2)
        except (OSError, DomainError, AgentStartFailed) as error:
            return _report_error(error, 1)
    return 0


@contextmanager
def _writing_audit_log(path: Path) -> Iterator[None]:
    """Writes the audit log to a file. Raises ValueError if it can't be written."""
    try:
        file = line_writer.LineWriter(path)
    except OSError as error:
        name = named(CoreSettings, "audit_log")
        raise ValueError(f"{name} can't be written: {path}: {error.strerror}") from None
    with closing(file), audit_log.write_audit_to(file.write):
        yield


def _report_error(error: Exception, status: int) -> int:
    print(f"portico core: {error}", file=sys.stderr)
    return status


async def _serve(server: CoreServer, closing: ExitStack, ready_fd: int | None, drain_seconds: float) -> None:
    stopping = ShutdownSignals(partial(_flush, closing))
    stopping.seconds = START_SECONDS
    # An executor of our own, so that a blocked thread in it can't delay the end of the process.
    threads = ThreadPoolExecutor(thread_name_prefix="asyncio")
    asyncio.get_running_loop().set_default_executor(threads)
    if not await _started(server, stopping):
        await _exit_process(closing, threads)
        return
    # Objects that exist by now stay; the garbage collector need not visit them under load.
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    gc.enable()
    readiness.tell(ready_fd)
    stopping.seconds = drain_seconds + SHUTDOWN_SECONDS
    log.info("serving on %s", ", ".join(server.addresses))
    replaced = await _wait_taken_over(server, stopping)
    await server.stop()
    await _exit_process(closing, threads, EXIT_FENCED_OUT if replaced else 0)
    if replaced:
        raise FencedOut


async def _wait_taken_over(server: CoreServer, stopping: ShutdownSignals) -> bool:
    """Waits for another core to take over the database (True) or for a signal to end (False). Raises the
    error that keeps this core from checking."""
    replaced = asyncio.create_task(server.wait_taken_over())
    asked = asyncio.create_task(stopping.asked.wait())
    done, _ = await asyncio.wait({replaced, asked}, return_when=asyncio.FIRST_COMPLETED)
    for task in (replaced, asked):
        task.cancel()
    if replaced not in done:
        return False
    replaced.result()
    return True


async def _started(server: CoreServer, stopping: ShutdownSignals) -> bool:
    """Starts the server; returns False if a signal to end came first. Raises as `CoreServer.start`."""
    starting = asyncio.create_task(server.start())
    asked = asyncio.create_task(stopping.asked.wait())
    await asyncio.wait({starting, asked}, return_when=asyncio.FIRST_COMPLETED)
    asked.cancel()
    if not starting.done():
        log.info("stopped before the core served")
        starting.cancel()
        await asyncio.wait({starting}, timeout=CANCEL_GRACE_SECONDS)
        return False
    starting.result()
    return True


async def _exit_process(closing: ExitStack, threads: ThreadPoolExecutor, status: int = 0) -> None:
    """Waits for tasks and threads; ends the process here if one that an agent has left would prevent that."""
    threads.shutdown(wait=False, cancel_futures=True)
    until = time.monotonic() + CANCEL_GRACE_SECONDS
    while not (idle := _idle()) and time.monotonic() < until:  # noqa: ASYNC110 - once, at the end
        await asyncio.sleep(0.01)
    if not idle:
        if status == EXIT_FENCED_OUT:
            _report_error(FencedOut(), status)
        _flush(closing)
        os._exit(status)


def _idle() -> bool:
    """Whether no task and no thread that the interpreter waits for is left."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    threads = [thread for thread in threading.enumerate() if not thread.daemon]
    return not tasks and threads == [threading.main_thread()]


def _flush(closing: ExitStack) -> None:
    closing.close()
    logging.shutdown()
    sys.stdout.flush()
    standard_error.release()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="portico core", description="Serve agents over gRPC.")
    parser.add_argument("targets", nargs="+", metavar="FILE[:app]", help="a Python file with an AgentApp")
    readiness.add_option(parser)
    for name, field in CoreSettings.model_fields.items():
        if secrets.is_secret(field):
            continue  # every user of the machine can read a process's arguments
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
