"""AgentApp: an agent's name, its functions (query, init, shutdown, endpoints) and its options."""

import inspect
import os
import sys
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar, overload

# True while a core imports an agent's file: app.run() in that file does nothing then.
being_loaded: ContextVar[bool] = ContextVar("being_loaded", default=False)

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Skill:
    """One capability of an agent, as its A2A card and its description list it."""

    id: str
    name: str
    description: str = ""
    tags: Sequence[str] = ()
    examples: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A function that an agent offers under an HTTP path, beside its query function."""

    path: str
    function: Callable[..., Any]
    methods: Sequence[str] = ("POST",)
    description: str = ""

    @property
    def streaming(self) -> bool:
        return inspect.isasyncgenfunction(self.function) or inspect.isgeneratorfunction(self.function)


@dataclass(frozen=True, slots=True)
class Workers:
    """Worker processes for one agent, which the core starts and supervises.

    Args:
        count: Number of workers, 1 to 256. A run goes to the worker with the fewest runs.
        memory_bytes: The core kills a worker that uses more memory; 0 means no limit.
        max_runs: The core replaces a worker that has started so many runs, once they have ended; 0 means no
            limit.
        stop_seconds: Time that a run has to stop when asked to; then the core kills its worker.
    """

    count: int = 1
    memory_bytes: int = 0
    max_runs: int = 0
    stop_seconds: float = 10.0

    def __post_init__(self) -> None:
        if not 1 <= self.count <= 256:
            raise ValueError(f"count must be 1 to 256 workers, not {self.count}")
        if self.memory_bytes < 0 or self.max_runs < 0 or self.stop_seconds <= 0:
            raise ValueError(
                "memory_bytes and max_runs of workers must not be negative; stop_seconds must be more than 0"
            )


@dataclass(eq=False)
class AgentApp:
    """An agent. `@app.query` registers the function that executes a run; `@app.init` and `@app.shutdown`
    register functions for start and end.

    A function receives the arguments that its parameters name: `self` (this object, for the agent's own
    attributes), `msgs` (the input messages), `request` (the AgentRequest), `context` (the Context). A query
    function may be an async generator, a coroutine, a generator or a plain function; the last two run in
    threads.

    Args:
        name: 1 to 128 printable characters without a slash.
        on_restart: What happens to a run that was executing when the core stopped. "rerun" executes it again
            from the start under the same id; otherwise the run fails. A run that waits for an answer keeps
            waiting, and executes again, with all answers so far, when the next answer arrives. With "fail"
            the agent never executes a run twice, so it can't ask for input at all.
        answers_directly: Whether answers come soon and as a whole. A2A peers then receive messages instead
            of tasks.
        isolation: Where the functions run. "none": in the core's process. "process": in a worker process,
            which may block, leak, crash or be killed without harm to the core. Workers(...): the same with
            limits.
    """

    name: str
    description: str = ""
    version: str = "1.0.0"
    input_modes: Sequence[str] = ("text/plain",)
    output_modes: Sequence[str] = ("text/plain",)
    skills: Sequence[Skill] = ()
    on_restart: Literal["fail", "rerun"] | None = None
    answers_directly: bool = False
    isolation: Literal["none", "process"] | Workers = "none"
    source: str = field(default="", init=False)  # the file that a core loaded it from
    query_function: Callable[..., Any] | None = field(default=None, init=False)
    framework: str = field(default="", init=False)
    init_function: Callable[..., Any] | None = field(default=None, init=False)
    shutdown_function: Callable[..., Any] | None = field(default=None, init=False)
    endpoints: dict[str, Endpoint] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        if not self.name or len(self.name) > 128 or not self.name.isprintable() or "/" in self.name:
            raise ValueError(
                f"an agent's name must be 1 to 128 printable characters without a slash, not {self.name!r}"
            )
        if self.on_restart not in (None, "fail", "rerun"):
            raise ValueError(f'on_restart must be "fail", "rerun" or None, not {self.on_restart!r}')
        if self.isolation not in ("none", "process") and not isinstance(self.isolation, Workers):
            raise ValueError(f'isolation must be "none", "process" or Workers(...), not {self.isolation!r}')

    @property
    def workers(self) -> Workers | None:
        """Configuration of the agent's worker processes; None if the agent runs in the core's process."""
        if isinstance(self.isolation, Workers):
            return self.isolation
        return Workers() if self.isolation == "process" else None

    def init(self, function: F) -> F:
        """Registers the function that the core calls once before the first run."""
        self.init_function = function
        return function

    @overload
    def query(self, function: F, /) -> F: ...
    @overload
    def query(self, function: None = None, /, *, framework: str = "") -> Callable[[F], F]: ...
    def query(self, function: Any = None, /, *, framework: str = "") -> Any:
        """Registers the function that executes a run.

        Args:
            framework: Name of a framework whose types the function uses: `msgs` are then that framework's
                messages, and the function may yield the framework's stream events. docs/frameworks.md lists
                the further parameters.
        """

        def register(function: F) -> F:
            self.query_function = function
            self.framework = framework
            return function

        return register if function is None else register(function)

    def shutdown(self, function: F) -> F:
        """Registers the function that the core calls once after the last run."""
        self.shutdown_function = function
        return function

    def endpoint(
        self, path: str, *, methods: Sequence[str] = ("POST",), description: str = ""
    ) -> Callable[[F], F]:
        """Registers a function under an HTTP path.

        The function receives the JSON body: the members of an object as the parameters of the same name, or
        the whole body as `body`. A generator function streams its values.

        Args:
            path: Begins with a slash.
            description: The function's docstring if empty.

        Raises:
            ValueError: The path does not begin with a slash.
        """
        if not path.startswith("/"):
            raise ValueError(f"an endpoint's path must begin with a slash: {path!r}")

        def register(function: F) -> F:
            about = description or inspect.getdoc(function) or ""
            upper = tuple(method.upper() for method in methods)
            self.endpoints[path] = Endpoint(path, function, upper, about)
            return function

        return register

    def run(self, host: str = "127.0.0.1", port: int = 8090, *arguments: str) -> None:
        """Serves this agent, as `portico run FILE` does; replaces this process and does not return.

        Does nothing while a core imports the file.

        Args:
            arguments: Further options of `portico run`.

        Raises:
            RuntimeError: The caller is not a script that has this object at its top level.
        """
        if being_loaded.get():
            return
        main = sys.modules["__main__"]
        file = getattr(main, "__file__", None)
        names = [name for name, value in vars(main).items() if value is self]
        if file is None or not names:
            raise RuntimeError(
                "app.run() works in a script's top level; elsewhere use `portico run FILE:app`"
            )
        target = f"{Path(file).resolve()}:{names[0]}"
        command = [sys.executable, "-P", "-m", "portico.cli", "run", target]
        command += ["--host", host, "--port", str(port)]
        sys.stdout.flush()
        sys.stderr.flush()
        os.execv(sys.executable, [*command, *arguments])  # noqa: S606 - the same interpreter, no shell
