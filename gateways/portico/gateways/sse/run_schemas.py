"""The JSON of runs and of the service itself, as OpenAPI tells it."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Status = Literal[
    "created",
    "queued",
    "in_progress",
    "completed",
    "canceled",
    "failed",
    "rejected",
    "incomplete",
    "input_required",
]


class Problem(BaseModel):
    """Why a run or message failed."""

    code: str
    message: str


class ContentModel(BaseModel):
    """A part of a message. `type` says which of the other fields there are."""

    model_config = ConfigDict(extra="allow")

    type: Literal["text", "data", "image", "audio", "file", "refusal", "video"]
    text: str | None = Field(default=None, description="Of type text.")
    data: Any = Field(default=None, description="Of type data: an object. Of type audio: base64 or a URL.")
    image_url: str | None = Field(default=None, description="Of type image.")


class MessageModel(BaseModel):
    """Something said, called or returned."""

    model_config = ConfigDict(extra="allow")

    role: Literal["assistant", "system", "user", "tool"] | None = None
    content: list[ContentModel] | str | None = None
    type: str | None = Field(default=None, description="message when left out.")
    id: str | None = Field(default=None, description="Given by Portico when left out.")
    metadata: dict[str, Any] | None = None


class BudgetModel(BaseModel):
    """The most that a run may use, its child runs included. A limit that is left out limits nothing."""

    model_config = ConfigDict(extra="forbid")

    wall_time: float | None = Field(default=None, gt=0, description="Seconds, without pauses.")
    tool_calls: int | None = Field(default=None, ge=0)
    tokens: int | None = Field(default=None, ge=0, description="As the agent reports them.")
    child_runs: int | None = Field(default=None, ge=0)


class StartRun(BaseModel):
    """What an agent is asked. Fields that are not listed reach it as `request.extra`."""

    model_config = ConfigDict(extra="allow")

    input: list[MessageModel] | str = Field(description="Messages, or a text of the user.")
    stream: bool | None = Field(default=None, description="False: one JSON object instead of a stream.")
    agent: str | None = Field(default=None, description="The core's default agent when left out.")
    session_id: str | None = Field(default=None, description="Generated when left out.")
    user_id: str | None = Field(default=None, description="The session's id when left out.")
    id: str | None = Field(default=None, description="An id of the caller's own, which the agent sees.")
    background: bool | None = Field(default=None, description="The run goes on when nobody reads it.")
    idempotency_key: str | None = Field(default=None, description="A repeat finds the first run.")
    if_session_busy: Literal["reject", "enqueue", "interrupt", "parallel"] | None = None
    timeout: float | None = Field(default=None, description="Seconds that the run may take.")
    previous_run_id: str | None = Field(default=None, description="The run that this one continues.")
    fork_session: bool | None = Field(default=None, description="In a new session; previous_run_id is set.")
    before_message_id: str | None = Field(
        default=None, description="As the previous run stood before it was told this message."
    )
    ephemeral: bool | None = Field(default=None, description="Kept for a minute after its end only.")
    budget: BudgetModel | None = None
    parent_run_id: str | None = Field(default=None, description="The run whose child run this becomes.")
    metadata: dict[str, Any] | None = Field(default=None, description="Returned with the run.")
    tools: list[dict[str, Any]] | None = Field(default=None, description="Functions the caller offers.")
    model: str | None = None
    temperature: float | None = None
    top_p: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    max_tokens: int | None = None
    stop: list[str] | str | None = None
    n: int | None = None
    seed: int | None = None


class RunResponse(BaseModel):
    """A run's response object, as its events have it."""

    model_config = ConfigDict(extra="allow")

    sequence_number: int | None
    object: Literal["response"]
    status: Status
    error: Problem | None
    id: str
    created_at: int = Field(description="Seconds since 1970.")
    completed_at: int | None
    output: list[dict[str, Any]] | None
    usage: dict[str, Any] | None
    session_id: str


class RunModel(RunResponse):
    """A run, as the core remembers it."""

    user_id: str
    agent: str
    background: bool
    last_sequence_number: int
    updated_at: float


class RunPage(BaseModel):
    """One page of runs, newest first."""

    runs: list[RunModel]
    next_page_token: str = Field(description="Empty on the last page.")


class Interrupted(BaseModel):
    """The runs that were interrupted, as they ended."""

    runs: list[RunModel]


class Asked(BaseModel):
    """Which question is answered."""

    input_request_id: str | None = Field(default=None, description="The question that this answers.")


class Answer(Asked):
    """The answer to a run that waits."""

    input: list[MessageModel] | str


class Told(BaseModel):
    """What a run is told while it works."""

    input: list[MessageModel] | str


class TaskSubmitted(BaseModel):
    """A run that was started in the background, in the reference's words."""

    task_id: str
    status: Literal["submitted"]
    queue: str
    message: str


class TaskStatus(BaseModel):
    """Where such a run stands."""

    status: Literal["pending", "running", "finished", "error"]
    result: dict[str, Any] | None


class Health(BaseModel):
    """Whether this process answers."""

    status: Literal["healthy"]
    mode: str
    runner: Literal["ready", "unavailable"] = Field(description="Whether the core serves.")


class Readiness(BaseModel):
    status: Literal["ready"]


class Liveness(BaseModel):
    status: Literal["alive"]


class ServiceInfo(BaseModel):
    """Where what is."""

    service: str
    mode: str
    endpoints: dict[str, str]
