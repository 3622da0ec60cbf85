"""Serves an agent on this machine: on a thread of the deploying program, or in a process that outlives it."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from portico.compat.agentscope_runtime.engine.deployers.base import DeployManager
from portico.compat.agentscope_runtime.engine.deployers.detached_process import DetachedProcess, target_of
from portico.compat.agentscope_runtime.engine.deployers.state import Deployment
from portico.compat.agentscope_runtime.engine.deployers.utils.deployment_modes import DeploymentMode
from portico.compat.agentscope_runtime.engine.paths import PATH, check_path

if TYPE_CHECKING:
    from portico.embedded import Embedded

STORE = "sqlite:///.portico/portico.db"  # the default of `portico run`


class LocalDeployManager(DeployManager):
    """Manages one deployment at a time, owned by this object.

    Another process can stop a detached deployment by its id.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 8090,
        shutdown_timeout: int = 30,
        startup_timeout: int = 30,
        logger: logging.Logger | None = None,
    ) -> None:
        """Sets the address and the timeouts, in seconds."""
        super().__init__()
        self.host = host
        self.port = port
        self._shutdown_timeout = shutdown_timeout
        self._startup_timeout = startup_timeout
        self._log = logger or logging.getLogger(__name__)
        self._server: Embedded | None = None
        self._detached: DetachedProcess | None = None

    async def deploy(
        self,
        app: Any = None,
        runner: Any = None,
        endpoint_path: str = PATH,
        request_model: Any = None,
        response_type: str = "sse",
        stream: bool = True,
        before_start: Callable[..., Any] | None = None,
        after_finish: Callable[..., Any] | None = None,
        mode: DeploymentMode = DeploymentMode.DAEMON_THREAD,
        custom_endpoints: Sequence[Any] | None = None,
        protocol_adapters: Sequence[Any] | None = None,
        broker_url: str | None = None,
        backend_url: str | None = None,
        enable_embedded_worker: bool = False,
        project_dir: str | None = None,
        entrypoint: str | None = None,
        **kwargs: Any,
    ) -> dict[str, str]:
        """Deploys an app or a runner; returns {"deploy_id", "url"} once it serves. Raises RuntimeError.

        A detached deployment runs `entrypoint`, FILE or FILE:app below `project_dir`, or else the app's
        own file.
        """
        if self.is_service_running():
            raise RuntimeError("Service is already running")
        check_path(endpoint_path)
        if app is None and runner is not None:
            from portico.compat.agentscope_runtime.engine.app import AgentApp  # that module imports this one

            app = AgentApp(runner=runner, before_start=before_start, after_finish=after_finish)
        try:
            if mode == DeploymentMode.DETACHED_PROCESS:
                config = await self._detach(app, project_dir, entrypoint, kwargs.get("environment") or {})
            elif mode == DeploymentMode.DAEMON_THREAD:
                config = await self._serve(app)
            else:
                raise ValueError(f"Unsupported deployment mode for LocalDeployManager: {mode}")
        except Exception as error:
            raise RuntimeError(f"Failed to deploy service: {error}") from error
        url = f"http://{self.host}:{self.port}"
        self.state_manager.save(
            Deployment(
                id=self.deploy_id,
                platform="local",
                url=url,
                created_at=datetime.now(UTC).isoformat(),
                agent_source=kwargs.get("agent_source"),
                config={"mode": mode.value, "host": self.host, "port": self.port, **config},
            )
        )
        return {"deploy_id": self.deploy_id, "url": url}

    async def _serve(self, app: Any) -> dict[str, Any]:
        from portico.embedded import Embedded, allowed_host
        from portico.embedded.embedded_server import listen

        if app is None:
            raise ValueError("there is no app and no runner to serve")
        host, _ = allowed_host(self.host)
        self._server = Embedded([app], listen(host, self.port), store=STORE)
        await asyncio.to_thread(self._server.start, self._startup_timeout)
        return {}

    async def _detach(
        self, app: Any, project_dir: str | None, entrypoint: str | None, environment: dict[str, str]
    ) -> dict[str, Any]:
        from portico.embedded import allowed_host

        if entrypoint is not None:
            target = str(Path(project_dir or ".") / entrypoint)
        elif app is not None:
            target = target_of(app)
        else:
            raise ValueError("a detached process needs an app or an entrypoint")
        host, open_to_all = allowed_host(self.host)
        log = self.state_manager.state_dir / f"{self.deploy_id}.log"
        self._detached = await asyncio.to_thread(
            DetachedProcess.start, target, host, self.port, log, environment, open_to_all=open_to_all
        )
        try:
            await asyncio.to_thread(self._detached.wait_ready, self._startup_timeout)
        except BaseException:
            await asyncio.to_thread(self._detached.stop, self._shutdown_timeout)
            self._detached = None
            raise
        return self._detached.about()

    async def stop(self, deploy_id: str, **kwargs: Any) -> dict[str, Any]:
        """Returns {"success", "message", "details"}; an unknown deployment is no success."""
        deployment = self.state_manager.get(deploy_id)
        if deployment is None:
            return _told(False, "Deploy id not found", deploy_id)
        if deploy_id == self.deploy_id and self._server is not None:
            server, self._server = self._server, None
            stopped = await asyncio.to_thread(server.stop, self._shutdown_timeout)
        elif (detached := DetachedProcess.found(deployment.config)) is not None:
            stopped = await asyncio.to_thread(detached.stop, self._shutdown_timeout)
            self._detached = None
        else:
            return _told(False, "It is on a thread of another process, or has ended", deploy_id)
        self.state_manager.update_status(deploy_id, "stopped")
        return _told(stopped, "Service stopped" if stopped else "It has not ended in time", deploy_id)

    @property
    def is_running(self) -> bool:
        return self.is_service_running()

    def is_service_running(self) -> bool:
        if self._server is not None:
            return self._server.running
        return self._detached is not None and self._detached.running

    def get_deployment_info(self) -> dict[str, Any]:
        return {
            "deploy_id": self.deploy_id,
            "host": self.host,
            "port": self.port,
            "is_running": self.is_service_running(),
            "mode": DeploymentMode.DETACHED_PROCESS if self._detached else DeploymentMode.DAEMON_THREAD,
            "pid": self._detached.pid if self._detached else None,
            "url": self.service_url,
        }

    @property
    def service_url(self) -> str | None:
        return f"http://{self.host}:{self.port}" if self.is_service_running() else None


def _told(success: bool, message: str, deploy_id: str) -> dict[str, Any]:
    return {"success": success, "message": message, "details": {"deploy_id": deploy_id}}
