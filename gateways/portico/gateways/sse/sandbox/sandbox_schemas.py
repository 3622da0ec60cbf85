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
    session_id: str | None = Field(default=None, description="Generated if omitted.")
    user_id: str | None = Field(default=None, description="The session's id if omitted.")
    spec: SpecModel = Field(default_factory=SpecModel)
    fresh: bool = Field(default=False, description="Create a new sandbox even if the session has one.")
    idempotency_key: str = ""


class ForkSandbox(Given):
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
    sandboxes: list[SandboxModel]
    next_page_token: str


class MetricsModel(BaseModel):
    memory_bytes: int | None
    cpu_seconds: float | None
    processes: int
    disk_bytes: int
    inodes: int


class RunCell(Given):
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
    stdout: str
    stderr: str
    rich: list[RichModel]
    execution_count: int
    error: RaisedModel | None
    failure: FailureModel | None


class RunCommand(Given):
    command: str | list[str] = Field(
        description="A command line for the shell, or a program and its arguments."
    )
    cwd: str = ""
    env: dict[str, str] = Field(default_factory=dict)
    stdin: str = ""
    timeout: float | None = Field(default=None, gt=0, lt=1e9, description="The most seconds for the call.")
    stream: bool = Field(default=False, description="Answer with Server-Sent Events instead of one object.")


class CommandModel(BaseModel):
    stdout: str
    stderr: str
    exit_code: int | None = Field(description="The exit code; negative for a signal.")
    failure: FailureModel | None


class StartProcess(Given):
    command: str | list[str]
    cwd: str = ""
    env: dict[str, str] = Field(default_factory=dict)
    stdin: bool = Field(default=False, description="Keep the process's standard input open.")


class ProcessModel(BaseModel):
    pid: int
    arguments: list[str]
    exit_code: int | None
    started_at: float
    output_start: int
    output_end: int


class ProcessList(BaseModel):
    processes: list[ProcessModel]


class ProcessInput(Given):
    data: str = ""
    eof: bool = False


class ProcessSignal(Given):
    signal: int = Field(description="The signal's number on Linux.", ge=1, le=64)


class ToolModel(BaseModel):
    name: str
    group: str
    description: str
    parameters: dict[str, Any] = Field(description="JSON Schema of the arguments.")


class ToolList(BaseModel):
    tools: list[ToolModel]


class FileModel(BaseModel):
    path: str
    type: str
    size_bytes: int
    mode: int
    modified_at: float
    version: str | None = Field(description="Version of a file's content, also its ETag; absent in lists.")


class FileList(BaseModel):
    files: list[FileModel]
    next_page_token: str


class Written(BaseModel):
    size_bytes: int


class PathModel(Given):
    path: str


class MoveFile(Given):
    source: str
    destination: str
    overwrite: bool = False


class EditModel(Given):
    old_text: str
    new_text: str = ""


class EditFile(Given):
    path: str
    edits: list[EditModel]
    dry_run: bool = False


class DiffModel(BaseModel):
    diff: str


class FoundModel(BaseModel):
    path: str
    line: int


class FoundList(BaseModel):
    files: list[FoundModel]


class PortModel(BaseModel):
    path: str = Field(description="The path below which this gateway serves the port, without a credential.")
    access_token: str
    expires_at: float


class PortRequest(Given):
    lifetime: float | None = Field(default=None, gt=0, le=86_400, description="Seconds; an hour if omitted.")


class CheckpointModel(Given):
    name: str


class RollBack(Given):
    checkpoint: str = ""
    snapshot_id: str | None = None


class RolledBack(BaseModel):
    kernel_restored: bool


class SnapshotModel(BaseModel):
    snapshot_id: str
    size_bytes: int
    kernel: bool


class ListedSnapshot(SnapshotModel):
    sandbox_id: str
    user_id: str
    session_id: str
    created_at: float


class SnapshotPage(BaseModel):
    snapshots: list[ListedSnapshot]
    next_page_token: str


# Models that only hand-written OpenAPI refers to.
SANDBOX_BODIES: tuple[type[BaseModel], ...] = (
    *(CreateSandbox, ForkSandbox, RunCell, RunCommand, StartProcess, ProcessInput, ProcessSignal),
    *(PathModel, MoveFile, EditFile, PortRequest, CheckpointModel, RollBack),
)
