"""A Runner: an agent as a class, served by a deploy manager or queried directly."""

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import httpx

from portico.compat.agentscope_runtime.engine.app.agent_app import AgentApp
from portico.compat.agentscope_runtime.engine.deployers import DeployManager, LocalDeployManager
from portico.compat.agentscope_runtime.engine.helpers.agent_api_client import body_of, parse_event
from portico.compat.agentscope_runtime.engine.paths import PATH
from portico.compat.agentscope_runtime.engine.schemas.agent_schemas import AgentRequest, Event
from portico.process.core_socket import socket_folder

if TYPE_CHECKING:
    from portico.embedded import Embedded

START_SECONDS = 30.0
STOP_SECONDS = 10.0


class Runner:
    """Base class of runners: define a query_handler, and name the framework of its messages.

    Between `start` and `stop` a thread of this process serves the agent behind a socket that only this
    user can access; `stream_query` uses it. Its runs and sessions are kept until `stop`.
    """

    def __init__(self) -> None:
        self.framework_type: str | None = None
        self._server: Embedded | None = None
        self._folder: Path | None = None
        self._made = ExitStack()
        self._deployed: list[tuple[DeployManager, str]] = []

    async def query_handler(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError("query_handler not implemented")

    async def init_handler(self, *args: Any, **kwargs: Any) -> None:
        """Called before the first query."""

    async def shutdown_handler(self, *args: Any, **kwargs: Any) -> None:
        """Called after the last query."""

    async def start(self) -> Self:
        from portico.embedded import Embedded

        with ExitStack() as made:
            folder = made.enter_context(socket_folder())
            if folder is None:
                raise OSError(
                    "no usable directory for a socket: set TMPDIR to a writable one with a short path"
                )
            listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            listening.bind(str(folder / "http.sock"))
            listening.listen()
            server = Embedded([AgentApp(runner=self)], listening, store="memory://")
            await asyncio.to_thread(server.start, START_SECONDS)
            self._server, self._folder, self._made = server, folder, made.pop_all()
        return self

    async def stop(self) -> None:
        server, self._server = self._server, None
        self._folder = None
        if server is not None:
            with self._made:
                await asyncio.to_thread(server.stop, STOP_SECONDS)

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(self, exc_type: object, exc_val: object, exc_tb: object) -> None:
        await self.stop()
        deployed, self._deployed = self._deployed, []
        for manager, deploy_id in deployed:
            await manager.stop(deploy_id)

    async def deploy(
        self,
        deploy_manager: DeployManager | None = None,
        endpoint_path: str = PATH,
        stream: bool = True,
        protocol_adapters: Sequence[Any] | None = None,
        requirements: str | list[str] | None = None,
        extra_packages: list[str] | None = None,
        base_image: str = "python:3.9-slim",
        environment: dict[str, str] | None = None,
        runtime_config: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> dict[str, str]:
        """Returns {"deploy_id", "url"}; the default manager is a LocalDeployManager. Raises RuntimeError."""
        manager = deploy_manager or LocalDeployManager()
        result = await manager.deploy(
            runner=self, endpoint_path=endpoint_path, environment=environment, **kwargs
        )
        self._deployed.append((manager, result["deploy_id"]))
        return result

    async def stream_query(
        self, request: AgentRequest | dict[str, Any], **kwargs: Any
    ) -> AsyncIterator[Event]:
        """Yields the events of a run. Raises RuntimeError before `start`, httpx.HTTPError for an invalid
        request.
        """
        if self._folder is None:
            raise RuntimeError("Runner has not been started: await runner.start(), or `async with Runner()`")
        transport = httpx.AsyncHTTPTransport(uds=str(self._folder / "http.sock"))
        async with (
            httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=None) as http,  # noqa: S113 - a run takes its time
            http.stream("POST", PATH, json=body_of(request)) as answer,
        ):
            if answer.is_error:
                await answer.aread()
            answer.raise_for_status()
            async for line in answer.aiter_lines():
                event = parse_event(line)
                if event is not None:
                    yield event
