"""Values that calls return: events while a call runs, and results of calls whose output is collected."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from portico.sandbox.errors import SandboxError


@dataclass(frozen=True, slots=True)
class Stdout:
    """Bytes of standard output."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Stderr:
    """Bytes of standard error."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Rich:
    """A displayed object in all formats that it offers, by MIME type; text is UTF-8."""

    data: dict[str, bytes]
    is_result: bool  # the value of the cell's last expression; False for an object displayed earlier


@dataclass(frozen=True, slots=True)
class CellError:
    """An exception that a cell raised. `limit` names the sandbox limit that caused it, where known."""

    name: str
    message: str
    traceback: str
    limit: str | None = None


@dataclass(frozen=True, slots=True)
class CellEnd:
    """The last event of a cell. `error` is the exception of its code; `failure` is why it could not
    finish."""

    execution_count: int = 0
    error: CellError | None = None
    failure: SandboxError | None = None


@dataclass(frozen=True, slots=True)
class CellInput:
    """The cell waits for a line of input. Await `answer` with the line, or with None for end of input; until
    then the cell waits, at most to its timeout. Do not echo the answer if `password` is set."""

    prompt: str
    password: bool
    answer: Callable[[str | None], Awaitable[None]] = field(repr=False, compare=False)


CellEvent = Stdout | Stderr | Rich | CellInput | CellEnd


@dataclass(frozen=True, slots=True)
class CellResult:
    """The collected output of a cell."""

    stdout: bytes
    stderr: bytes
    rich: list[Rich]
    end: CellEnd

    @property
    def ok(self) -> bool:
        """Whether the cell ended without an exception or failure."""
        return self.end.error is None and self.end.failure is None


@dataclass(frozen=True, slots=True)
class Lost:
    """`size` bytes of output were discarded before this reader read them."""

    size: int


@dataclass(frozen=True, slots=True)
class ProcessEnd:
    """The last event of a process. `exit_code` is negative for a signal; `offset` is the end of its output in
    bytes.
    """

    exit_code: int | None
    offset: int = 0
    failure: SandboxError | None = None


ProcessEvent = Stdout | Stderr | Lost | ProcessEnd


@dataclass(frozen=True, slots=True)
class ShellResult:
    """The collected output of a command."""

    stdout: bytes
    stderr: bytes
    exit_code: int | None
    failure: SandboxError | None = None

    @property
    def ok(self) -> bool:
        """Whether the command exited with 0."""
        return self.exit_code == 0 and self.failure is None


@dataclass(frozen=True, slots=True)
class ProcessInfo:
    """A process started in a sandbox. `pid` is its number inside. Its output from byte `output_start` to
    `output_end` is kept; `started` is Unix seconds."""

    pid: int
    command: list[str]
    terminal: bool
    exit_code: int | None
    started: float
    output_start: int
    output_end: int


@dataclass(frozen=True, slots=True)
class Entry:
    """The attributes of a file. `type` is file, directory, link or other; times are Unix seconds."""

    path: str
    type: str
    size: int
    mode: int
    modified: float
    accessed: float
    changed: float
    version: str = ""  # changes with the content; empty where unknown


@dataclass(frozen=True, slots=True)
class Found:
    """A match of a file search."""

    path: str
    line: int | None  # of the first match, for a search in contents


@dataclass(frozen=True, slots=True)
class Change:
    """A change below a watched directory. `type` is ready, created, modified, removed, or overflow (changes
    were missed)."""

    type: str
    path: str
    directory: bool = False


@dataclass(frozen=True, slots=True)
class Metrics:
    """What a sandbox uses now. None where this machine cannot measure it."""

    memory_bytes: int | None
    cpu_seconds: float | None
    processes: int
    disk_bytes: int
    inodes: int


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a backend supports on its machine, detected when it opens. `missing` maps each missing feature to
    the reason.
    """

    backend: str
    tier: str
    limits: frozenset[str]  # enforced for the sandbox as a whole
    pause: str  # the means of pausing: freezer or signals
    missing: dict[str, str] = field(default_factory=dict)
