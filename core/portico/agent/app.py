"""AgentApp: a name, a query function, and what else belongs to an agent."""

import inspect
import os
import sys
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar, overload

# Set while a core imports the file of an agent, whose own app.run() means nothing then.
being_loaded: ContextVar[bool] = ContextVar("being_loaded", default=False)

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Skill:
    """One thing that an agent can do."""

    id: str
    name: str
    description: str = ""
    tags: Sequence[str] = ()
    examples: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A function that an agent offers beside its query."""

    path: str
    function: Callable[..., Any]
    methods: Sequence[str] = ("POST",)
    description: str = ""

    @property
    def streaming(self) -> bool:
        return inspect.isasyncgenfunction(self.function) or inspect.isgeneratorfunction(self.function)


@dataclass(frozen=True, slots=True)
class Workers:
    """Processes of an agent's own, which the core keeps.

    `count` of them; a run goes to the one that has the fewest. One that has come to more than `memory_bytes`
    is killed, one that has begun `max_runs` runs is replaced when those have ended; 0 is no limit. Agents
    that have not stopped `stop_seconds` after they were told to are killed with their process.
    """

    count: int = 1
    memory_bytes: int = 0
    max_runs: int = 0
    stop_seconds: float = 10.0

    def __post_init__(self) -> None:
        if not 1 <= self.count <= 256:
            raise ValueError(f"an agent has 1 to 256 workers, not {self.count}")
        if self.memory_bytes < 0 or self.max_runs < 0 or self.stop_seconds <= 0:
            raise ValueError("limits of workers are not negative, and stop_seconds is more than 0")


@dataclass(eq=False)
class AgentApp:
    """An agent: `@app.query` is what it does, `@app.init` and `@app.shutdown` are around its life.

    The functions get what they name: `self` (this object, to keep things on), `msgs` (the input
    messages), `request` (the AgentRequest), `context` (the Context). A query function may be an
    async generator, a coroutine, a generator or a plain function; the last two run in threads.

    `on_restart` says what becomes of a run that a restart of the core cut off at work: "rerun" executes it
    again from the start under the same id; otherwise it fails. One that waits for an answer goes on waiting,
    and is executed again with the answers so far when it has the next; with "fail" it can't wait at all.

    `answers_directly` says that its answers come soon and as a whole: to A2A peers they are then
    messages and not tasks.

    `isolation` says where its functions run: "none" is in the core, "process" in a process that may block,
    leak, crash or be killed without harm to the core; Workers(...) is that with limits.
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
                f"an agent's name is 1 to 128 printable characters without a slash, not {self.name!r}"
            )
        if self.on_restart not in (None, "fail", "rerun"):
            raise ValueError(f'on_restart is "fail", "rerun" or None, not {self.on_restart!r}')
        if self.isolation not in ("none", "process") and not isinstance(self.isolation, Workers):
            raise ValueError(f'isolation is "none", "process" or Workers(...), not {self.isolation!r}')

    @property
    def workers(self) -> Workers | None:
        """The processes that it asks for; None when it runs in the core."""
        if isinstance(self.isolation, Workers):
            return self.isolation
        return Workers() if self.isolation == "process" else None

    def init(self, function: F) -> F:
        """Called once before the first run."""
        self.init_function = function
        return function

    @overload
    def query(self, function: F, /) -> F: ...
    @overload
    def query(self, function: None = None, /, *, framework: str = "") -> Callable[[F], F]: ...
    def query(self, function: Any = None, /, *, framework: str = "") -> Any:
        """Called for every run. With a framework, `msgs` are that framework's own messages, and what is
        yielded may be what it streams; docs/frameworks.md has what else the function may name."""

        def register(function: F) -> F:
            self.query_function = function
            self.framework = framework
            return function

        return register if function is None else register(function)

    def shutdown(self, function: F) -> F:
        """Called once after the last run."""
        self.shutdown_function = function
        return function

    def endpoint(
        self, path: str, *, methods: Sequence[str] = ("POST",), description: str = ""
    ) -> Callable[[F], F]:
        """Offer a function under a path. It gets the JSON body: the members of an object as the
        parameters that it names, or the whole as `body`. A generator streams."""
        if not path.startswith("/"):
            raise ValueError(f"an endpoint's path begins with a slash: {path!r}")

        def register(function: F) -> F:
            about = description or inspect.getdoc(function) or ""
            upper = tuple(method.upper() for method in methods)
            self.endpoints[path] = Endpoint(path, function, upper, about)
            return function

        return register

    def run(self, host: str = "127.0.0.1", port: int = 8090, *arguments: str) -> None:
        """Serve this agent: what `portico run FILE` does, with the file that calls it."""
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
