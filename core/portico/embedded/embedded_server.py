"""Embedded server: a thread with an event loop that serves a core and the HTTP gateways on a socket."""

import asyncio
import logging
import socket
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import uvicorn

from portico.agent import AgentApp
from portico.core.errors import FencedOut
from portico.core.server.core_server import CoreServer
from portico.core.settings.core_settings import CoreSettings
from portico.gateways.__main__ import with_common
from portico.gateways.core_auth_check import is_loopback_host
from portico.gateways.gateway_registry import GATEWAYS
from portico.gateways.http.server.batched_protocol import BatchedProtocol
from portico.gateways.http.settings import HttpSettings
from portico.gateways.http.site import GatewaySite
from portico.process.core_socket import core_socket

log = logging.getLogger(__name__)

STOP_SECONDS = 5
BACKLOG = 1024
# Imported with this module, so that no start waits for it.
_GATEWAYS = [(kind.settings(), kind.factory()) for kind in GATEWAYS.values() if kind.embeddable]


class Embedded:
    """A core and all HTTP gateways that can be embedded: all except MCP.

    The agents' functions run on the thread's event loop. `listening` is a bound socket, TCP or Unix, which is
    closed at the end. `store` is a URL, such as sqlite:///portico.db or memory://.
    """

    def __init__(self, apps: Sequence[AgentApp], listening: socket.socket, *, store: str) -> None:
        self._apps = apps
        self._listening = listening
        self._store = store
        self._thread = threading.Thread(target=self._run, name="portico-embedded", daemon=True)
        self._ready = threading.Event()
        self._error: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None

    def start(self, seconds: float) -> None:
        """Starts the thread and waits until it serves. Raises the error that prevents it, or TimeoutError
        after so many seconds."""
        self._thread.start()
        if not self._ready.wait(seconds):
            self.stop(STOP_SECONDS)
            raise TimeoutError(f"the agent is not being served after {seconds:g} s")
        if self._error is not None:
            self._thread.join()
            raise self._error

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def stop(self, seconds: float) -> bool:
        """Drains and stops; live runs have so many seconds to end. Returns whether the thread has ended."""
        if self._loop is not None and self._stopping is not None and self._thread.is_alive():
            try:
                self._loop.call_soon_threadsafe(self._stopping.set)
            except RuntimeError:
                pass  # the loop has just ended by itself
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            self._error = error
        finally:
            self._listening.close()
            self._ready.set()

    async def _serve(self) -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        with core_socket() as target:
            core = CoreServer(self._apps, self._settings(target))
            await core.start()
            try:
                await self._serve_http(target, self._stopping, core)
            finally:
                await core.stop()

    def _settings(self, target: str) -> CoreSettings:
        given: dict[str, Any] = {"listen": [target], "store": self._store, "drain_seconds": 1.0}
        address = self._listening.getsockname()
        if not isinstance(address, str) and not is_loopback_host(address[0]):
            given["error_words"] = "log"  # other machines can call the gateways, though not the core
        return CoreSettings(**given)

    async def _serve_http(self, target: str, stopping: asyncio.Event, core: CoreServer) -> None:
        """Serves the gateways until `stopping` is set. Raises OSError; FencedOut if another core takes over
        the database."""
        common = HttpSettings(core=target)
        gateways = [create(with_common(settings(core=target), common)) for settings, create in _GATEWAYS]
        address = self._listening.getsockname()
        site = GatewaySite(gateways, common, listening=[] if isinstance(address, str) else [address[0]])
        config = uvicorn.Config(
            site,
            http=BatchedProtocol,
            ws="websockets-sansio",
            access_log=False,
            log_config=None,
            log_level="warning",
            server_header=False,
            date_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=STOP_SECONDS,
        )
        server = uvicorn.Server(config)
        serving = asyncio.create_task(_serve(server, self._listening))
        asked = asyncio.create_task(stopping.wait())
        replaced = asyncio.create_task(core.wait_taken_over())
        while not server.started and not serving.done():  # noqa: ASYNC110 - it has no event for that
            await asyncio.sleep(0.01)
        if not server.started:
            asked.cancel()
            replaced.cancel()
            await serving
            raise OSError("the gateways can't be served; the log has the reason")
        self._ready.set()
        await asyncio.wait({serving, asked, replaced}, return_when=asyncio.FIRST_COMPLETED)
        fenced_out = replaced.done()
        site.stop()
        server.should_exit = True
        asked.cancel()
        replaced.cancel()
        await serving
        if fenced_out:
            replaced.result()
            log.error("%s", FencedOut())
            raise FencedOut


async def _serve(server: uvicorn.Server, listening: socket.socket) -> None:
    with suppress(SystemExit):  # uvicorn can't start and has logged the reason
        await server.serve([listening])


def listen(host: str, port: int) -> socket.socket:
    """Opens a listening TCP socket. Raises OSError."""
    # The protocol must be named, or asyncio does not turn off Nagle's algorithm.
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        raise OSError(error.errno, f"can't listen on {host}:{port}: {error.strerror}") from None
    return listening
