"""Models of sandboxes: they validate request bodies and describe the JSON in OpenAPI."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Given(BaseModel):
    """A request body; unknown fields are errors."""

    model_config = ConfigDict(extra="forbid")


class LimitsModel(Given):
    """Resource limits of a sandbox; the server's default applies to omitted ones."""

    memory_bytes: int = Field(default=0, ge=0, lt=2**63)
    cpus: float = Field(default=0, ge=0)
    processes: int = Field(default=0, ge=0, lt=2**31)
    disk_bytes: int = Field(default=0, ge=0, lt=2**63)
    inodes: int = Field(default=0, ge=0, lt=2**63)
    output_bytes: int = Field(default=0, ge=0, lt=2**63, description="The most output of one call.")
    call_seconds: float | None = Field(default=None, gt=0, lt=1e9)


class MountModel(Given):
    """A directory of the host in the sandbox."""

    source: str
    target: str
    writable: bool = False


class SpecModel(Given):
    """The specification of a sandbox."""

    type: str = Field(
        default="", description="base (Python and shell), or filesystem (also tools for files)."
    )
    backend: str = ""
    limits: LimitsModel = Field(default_factory=LimitsModel)
    env: dict[str, str] = Field(default_factory=dict)
    mounts: list[MountModel] = Field(default_factory=list)
    allow_hosts: list[str] = Field(
        default_factory=list,
        description="Hosts that the sandbox may connect to, such as pypi.org, *.example.com:8443 or "
        "tcp://db.example.com:5432; empty for no network.",
    )
    preload: list[str] = Field(
        default_factory=list,
        description="Python modules to import at the start; the operator must allow them.",
    )
    ttl_seconds: float | None = Field(default=None, gt=0, lt=1e9)
    idle_seconds: float | None = Field(default=None, gt=0, lt=1e9)
    idle_action: Literal["", "end", "pause"] = Field(
        default="", description="After idle_seconds the sandbox ends, or pauses until the next call."
    )
    metadata: dict[str, str] = Field(default_factory=dict)


class CreateSandbox(Given):
    """A request for the sandbox of a session, or for another one."""

    session_id: str | None = Field(default=None, description="Generated if omitted.")
    user_id: str | None = Field(default=None, description="The session's id if omitted.")
    spec: SpecModel = Field(default_factory=SpecModel)
    fresh: bool = Field(default=False, description="Create a new sandbox even if the session has one.")
    idempotency_key: str = ""


class ForkSandbox(Given):
    """A request to create a sandbox from another one's files."""

    session_id: str | None = Field(default=None, description="Generated if omitted.")


class SandboxModel(BaseModel):
    """A sandbox in its current state."""

    sandbox_id: str
    user_id: str
    session_id: str
    state: Literal["running", "paused"]
    spec: SpecModel
    tier: str = Field(description="The strength of its isolation.")
    created_at: float
    used_at: float


class SandboxPage(BaseModel):
    """A page of sandboxes, newest first."""

    sandboxes: list[SandboxModel]
    next_page_token: str


class MetricsModel(BaseModel):
    """Resources that a sandbox uses; null if not measured."""

    memory_bytes: int | None
    cpu_seconds: float | None
    processes: int
    disk_bytes: int
    inodes: int


class RunCell(Given):
    """Python code to run in the kernel."""

    code: str
    timeout: float | None = Field(default=None, gt=0, lt=1e9, description="The most seconds for the call.")
    stream: bool = Field(default=False, description="Answer with Server-Sent Events instead of one object.")


class FailureModel(BaseModel):
    """Why code did not run to its end."""

    reason: str
    message: str
    limit: str
    kernel_lost: bool
    exit_code: int | None = Field(description="The exit code of a kernel that died; negative for a signal.")
    signal: str = Field(description="The signal that ended the kernel, such as SIGSEGV.")


class RaisedModel(BaseModel):
    """The exception that the code raised."""

    name: str
    message: str
    traceback: str
    limit: str


class RichModel(BaseModel):
    """An object by MIME type: text as it is, other types in base64."""

    data: dict[str, str]
    is_result: bool


class CellModel(BaseModel):
    """The result of a cell."""

    stdout: str
    stderr: str
    rich: list[RichModel]
    execution_count: int
    error: RaisedModel | None
    failure: FailureModel | None


class RunCommand(Given):
    """A command to run to its end."""

    command: str | list[str] = Field(
        description="A command line for the shell, or a program and its arguments."
    )
    cwd: str = ""
    env: dict[str, str] = Field(default_factory=dict)
    stdin: str = ""
    timeout: float | None = Field(default=None, gt=0, lt=1e9, description="The most seconds for the call.")
    stream: bool = Field(default=False, description="Answer with Server-Sent Events instead of one object.")


class CommandModel(BaseModel):
    """The result of a command."""

    stdout: str
    stderr: str
    exit_code: int | None = Field(description="The exit code; negative for a signal.")
    failure: FailureModel | None


class StartProcess(Given):
    """A command to start in the background."""

    command: str | list[str]
    cwd: str = ""
    env: dict[str, str] = Field(default_factory=dict)
    stdin: bool = Field(default=False, description="Keep the process's standard input open.")


class ProcessModel(BaseModel):
    """A process of a sandbox; `output_start` and `output_end` are the byte offsets of the stored output."""

    pid: int
    arguments: list[str]
    exit_code: int | None
    started_at: float
    output_start: int
    output_end: int


class ProcessList(BaseModel):
    processes: list[ProcessModel]


class ProcessInput(Given):
    """Data for a process's standard input; `eof` closes it."""

    data: str = ""
    eof: bool = False


class ProcessSignal(Given):
    """A signal for a process."""

    signal: int = Field(description="The signal's number on Linux.", ge=1, le=64)


class ToolModel(BaseModel):
    """A tool of a sandbox."""

    name: str
    group: str
    description: str
    parameters: dict[str, Any] = Field(description="JSON Schema of the arguments.")


class ToolList(BaseModel):
    tools: list[ToolModel]


class FileModel(BaseModel):
    """A file or directory."""

    path: str
    type: str
    size_bytes: int
    mode: int
    modified_at: float
    version: str | None = Field(description="Version of a file's content, also its ETag; absent in lists.")


class FileList(BaseModel):
    """A page of a directory."""

    files: list[FileModel]
    next_page_token: str


class Written(BaseModel):
    """The size of a written file."""

    size_bytes: int


class PathModel(Given):
    path: str


class MoveFile(Given):
    """A file or directory to move."""

    source: str
    destination: str
    overwrite: bool = False


class EditModel(Given):
    """A text to replace in a file."""

    old_text: str
    new_text: str = ""


class EditFile(Given):
    """Replacements in a file; `dry_run` returns the diff without writing."""

    path: str
    edits: list[EditModel]
    dry_run: bool = False


class DiffModel(BaseModel):
    """The changes of an edit, as a unified diff."""

    diff: str


class FoundModel(BaseModel):
    """A matching file, and the line of the text; 0 without a text."""

    path: str
    line: int


class FoundList(BaseModel):
    files: list[FoundModel]


class PortModel(BaseModel):
    """Access to a port of a sandbox."""

    path: str = Field(description="The path below which this gateway serves the port, without a credential.")
    access_token: str
    expires_at: float


class PortRequest(Given):
    """The lifetime of the access to a port."""

    lifetime: float | None = Field(default=None, gt=0, le=86_400, description="Seconds; an hour if omitted.")


class CheckpointModel(Given):
    """The name of a checkpoint."""

    name: str


class RollBack(Given):
    """The checkpoint or snapshot to restore."""

    checkpoint: str = ""
    snapshot_id: str | None = None


class RolledBack(BaseModel):
    """Whether the kernel's state was restored too."""

    kernel_restored: bool


class SnapshotModel(BaseModel):
    """A snapshot; `kernel` says whether it contains the kernel's state."""

    snapshot_id: str
    size_bytes: int
    kernel: bool


class ListedSnapshot(SnapshotModel):
    sandbox_id: str
    user_id: str
    session_id: str
    created_at: float


class SnapshotPage(BaseModel):
    """A page of snapshots, newest first."""

    snapshots: list[ListedSnapshot]
    next_page_token: str


# Models that only hand-written OpenAPI refers to.
SANDBOX_BODIES: tuple[type[BaseModel], ...] = (
    *(CreateSandbox, ForkSandbox, RunCell, RunCommand, StartProcess, ProcessInput, ProcessSignal),
    *(PathModel, MoveFile, EditFile, PortRequest, CheckpointModel, RollBack),
)
