"""What calls give back: events while they run, and results of those that are collected."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from portico.sandbox.errors import SandboxError


@dataclass(frozen=True, slots=True)
class Stdout:
    data: bytes


@dataclass(frozen=True, slots=True)
class Stderr:
    data: bytes


@dataclass(frozen=True, slots=True)
class Rich:
    """One object in every form it offers: MIME type to content; text is UTF-8."""

    data: dict[str, bytes]
    is_result: bool  # the value of the cell's last expression, and not something it displayed on the way


@dataclass(frozen=True, slots=True)
class CellError:
    """What a cell raised. `limit` names the sandbox's limit that was behind it, as far as it can be told."""

    name: str
    message: str
    traceback: str
    limit: str | None = None


@dataclass(frozen=True, slots=True)
class CellEnd:
    """The last event of a cell. `failure` is what kept it from running to its end."""

    execution_count: int = 0
    error: CellError | None = None
    failure: SandboxError | None = None


@dataclass(frozen=True, slots=True)
class CellInput:
    """The cell waits for a line. Await `answer` with it, or with None for the end of input; without an answer
    the cell waits until its time is over. The answer of a password must not be shown."""

    prompt: str
    password: bool
    answer: Callable[[str | None], Awaitable[None]] = field(repr=False, compare=False)


CellEvent = Stdout | Stderr | Rich | CellInput | CellEnd


@dataclass(frozen=True, slots=True)
class CellResult:
    stdout: bytes
    stderr: bytes
    rich: list[Rich]
    end: CellEnd

    @property
    def ok(self) -> bool:
        return self.end.error is None and self.end.failure is None


@dataclass(frozen=True, slots=True)
class Lost:
    """So many bytes of output were not kept until this reader came for them."""

    size: int


@dataclass(frozen=True, slots=True)
class ProcessEnd:
    """The last event of a process. `exit_code` is negative for a signal; `offset` is where its output
    ends.
    """

    exit_code: int | None
    offset: int = 0
    failure: SandboxError | None = None


ProcessEvent = Stdout | Stderr | Lost | ProcessEnd


@dataclass(frozen=True, slots=True)
class ShellResult:
    stdout: bytes
    stderr: bytes
    exit_code: int | None
    failure: SandboxError | None = None

    @property
    def ok(self) -> bool:
        return self.exit_code == 0 and self.failure is None


@dataclass(frozen=True, slots=True)
class ProcessInfo:
    """`pid` is the sandbox's own. Output from `output_start` to `output_end` is kept."""

    pid: int
    command: list[str]
    terminal: bool
    exit_code: int | None
    started: float
    output_start: int
    output_end: int


@dataclass(frozen=True, slots=True)
class Entry:
    """A file as stat tells it; `type` is file, directory, link or other, times are Unix seconds."""

    path: str
    type: str
    size: int
    mode: int
    modified: float
    accessed: float
    changed: float
    version: str = ""  # other with every content; empty where that is not known


@dataclass(frozen=True, slots=True)
class Found:
    path: str
    line: int | None  # of the first match, when a text was searched for


@dataclass(frozen=True, slots=True)
class Change:
    """`type` is ready, created, modified, removed or overflow (changes were missed)."""

    type: str
    path: str
    directory: bool = False


@dataclass(frozen=True, slots=True)
class Metrics:
    """What a sandbox uses now. None: this machine does not tell."""

    memory_bytes: int | None
    cpu_seconds: float | None
    processes: int
    disk_bytes: int
    inodes: int


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a backend can do on its machine, found out at the start. `missing` says what is not there and
    why.
    """

    backend: str
    tier: str
    limits: frozenset[str]  # those that are enforced for the sandbox as a whole
    pause: str  # freezer or signals
    missing: dict[str, str] = field(default_factory=dict)
