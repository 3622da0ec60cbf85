"""AgentApp with the reference's arguments."""

import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from importlib.metadata import PackageNotFoundError, version
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, Protocol

from starlette.datastructures import State

from portico.agent import AgentApp as PorticoApp
from portico.compat.agentscope_runtime.engine.deployers.utils.deployment_modes import DeploymentMode
from portico.compat.agentscope_runtime.engine.function_adapter import adapt_function
from portico.compat.agentscope_runtime.engine.paths import PATH, check_path
from portico.compat.agentscope_runtime.errors import NotThereYet

if TYPE_CHECKING:
    from portico.compat.agentscope_runtime.engine.deployers.base import DeployManager

log = logging.getLogger(__name__)
NAME = "AgentScope Runtime API"
# Portico provides these features in another way or not at all; setting one logs a warning.
_WITHOUT_MEANING: Mapping[str, str] = {
    "broker_url": "runs are durable by themselves, also in the background",
    "backend_url": "runs are durable by themselves, also in the background",
    "enable_embedded_worker": "runs are durable by themselves, also in the background",
    "enable_stream_task": "any run may be in the background; see docs/gateways/sse.md",
    "a2a_config": "the A2A card is made of the app; see docs/gateways/a2a.md",
    "agui_config": "there is no AG-UI gateway",
    "interrupt_backend": "every protocol can cancel and interrupt a run",
    "interrupt_redis_url": "every protocol can cancel and interrupt a run",
    "protocol_adapters": "each protocol has its gateway",
    "custom_endpoints": "use @app.endpoint",
}


class AgentRunner(Protocol):
    """A runner, as far as an app calls it."""

    framework_type: str | None

    @property
    def query_handler(self) -> Callable[..., Any]: ...

    @property
    def init_handler(self) -> Callable[..., Any]: ...

    @property
    def shutdown_handler(self) -> Callable[..., Any]: ...


class AgentApp(PorticoApp):
    """An AgentApp with the reference's arguments. `framework="agentscope"` is the installed version.

    `lifespan`, `before_start` and `after_finish` get this object, and may use its `state`.
    """

    def __init__(
        self,
        *,
        app_name: str = NAME,
        app_description: str = "",
        endpoint_path: str = PATH,
        response_type: str = "sse",
        stream: bool = True,
        request_model: Any = None,
        before_start: Callable[..., Any] | None = None,
        after_finish: Callable[..., Any] | None = None,
        broker_url: str | None = None,
        backend_url: str | None = None,
        runner: AgentRunner | None = None,
        enable_embedded_worker: bool = False,
        enable_stream_task: bool = False,
        stream_task_queue: str = "stream_query",
        stream_task_timeout: float | None = None,
        a2a_config: Any = None,
        agui_config: Any = None,
        interrupt_backend: Any = None,
        interrupt_redis_url: str | None = None,
        lifespan: Callable[[Any], Any] | None = None,
        mode: DeploymentMode = DeploymentMode.DAEMON_THREAD,
        protocol_adapters: Sequence[Any] | None = None,
        custom_endpoints: Sequence[Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Other arguments are Portico's own, such as `version` and `on_restart`. Raises NotThereYet."""
        given = locals()
        super().__init__(app_name.replace("/", " "), app_description, **kwargs)
        check_path(endpoint_path)
        for option, words in _WITHOUT_MEANING.items():
            if given[option]:
                log.warning("AgentApp(%s=...) has no effect in Portico: %s", option, words)
        self.state = State()
        self.endpoint_path = endpoint_path
        self._lifespan = lifespan
        self._before_start = before_start
        self._after_finish = after_finish
        self._init: Callable[..., Any] | None = None
        self._shutdown: Callable[..., Any] | None = None
        self._life = AsyncExitStack()
        self.init_function = self._begin
        self.shutdown_function = self._end
        if runner is not None:
            self._init, self._shutdown = runner.init_handler, runner.shutdown_handler
            self.query(framework=runner.framework_type or "text")(runner.query_handler)

    async def _begin(self) -> None:
        if self._lifespan is not None:
            state = await self._life.enter_async_context(self._lifespan(self))
            for name, value in (state or {}).items():
                setattr(self.state, name, value)
        for function in (self._before_start, self._init):
            if function is not None:
                await _called(function, self)

    async def _end(self) -> None:
        async with self._life:
            for function in (self._shutdown, self._after_finish):
                if function is not None:
                    await _called(function, self)

    def init(self, func: Any) -> Any:
        self._init = func
        return func

    def shutdown(self, func: Any) -> Any:
        self._shutdown = func
        return func

    def query(self, framework: Any = "agentscope") -> Any:  # type: ignore[override]
        """Registers the query function. With `text`, which is no framework, it yields texts or the
        reference's events.
        """
        if callable(framework):
            return self.query()(framework)
        name = {"agentscope": _agentscope(), "text": ""}.get(framework, framework)

        def register(function: Any) -> Any:
            self.query_function = adapt_function(function)
            self.framework = name
            return function

        return register

    def endpoint(self, path: str, methods: Sequence[str] | None = None) -> Any:  # type: ignore[override]
        return super().endpoint(path, methods=methods or ("POST",))

    def task(self, path: str, queue: str = "celery") -> Any:
        """Raises NotThereYet."""
        raise NotThereYet("@app.task", "start a run in the background; see docs/gateways/sse.md")

    async def stop_chat(self, user_id: str, session_id: str) -> None:
        """Raises NotThereYet."""
        raise NotThereYet("stop_chat", "cancel or interrupt the run: POST /runs/ID/cancel")

    async def deploy(self, deployer: "DeployManager", **kwargs: Any) -> dict[str, str]:
        """Serves the app through the deployer and returns."""
        return await deployer.deploy(app=self, **kwargs)

    def run(self, host: str = "0.0.0.0", port: int = 8080, web_ui: bool = False, **kwargs: Any) -> None:  # type: ignore[override]  # noqa: S104
        """Runs `portico run` with the calling file; other machines connect only if that is permitted."""
        from portico.agent.app import being_loaded

        if being_loaded.get():
            return
        if web_ui:
            log.warning("there is no web UI in Portico; try `portico chat`")
        from portico.embedded import allowed_host

        host, open_to_all = allowed_host(host)
        more = ("--insecure-no-auth",) if open_to_all else ()
        sys.stderr.flush()
        super().run(host, port, "--grpc-port", "0", *more)


async def _called(function: Callable[..., Any], app: AgentApp) -> None:
    """Binds the function to the app unless it is a bound method."""
    result = function() if hasattr(function, "__self__") else function(app)
    if isawaitable(result):
        await result


def _agentscope() -> str:
    try:
        return "agentscope1" if version("agentscope").startswith(("0.", "1.")) else "agentscope"
    except PackageNotFoundError:
        return "agentscope"  # the agent's start reports that it is not installed
