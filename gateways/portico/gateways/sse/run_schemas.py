"""Models of runs and of the service itself, for OpenAPI."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from portico.client.run_status import RunStatusName


class Problem(BaseModel):
    """Why a run or a message failed."""

    code: str
    message: str


class ContentModel(BaseModel):
    """A part of a message. `type` decides which other fields it has."""

    model_config = ConfigDict(extra="allow")

    type: Literal["text", "data", "image", "audio", "file", "refusal", "video"]
    text: str | None = Field(default=None, description="For type text.")
    data: Any = Field(default=None, description="For type data: an object. For type audio: base64 or a URL.")
    image_url: str | None = Field(default=None, description="For type image: a URL.")


class MessageModel(BaseModel):
    """A message of a conversation: text, a call, or a call's result."""

    model_config = ConfigDict(extra="allow")

    role: Literal["assistant", "system", "user", "tool"] | None = None
    content: list[ContentModel] | str | None = None
    type: str | None = Field(default=None, description="`message` if omitted.")
    id: str | None = Field(default=None, description="Generated if omitted.")
    metadata: dict[str, Any] | None = None


class BudgetModel(BaseModel):
    """The most that a run and its child runs may use. An omitted limit means no limit."""

    model_config = ConfigDict(extra="forbid")

    wall_time: float | None = Field(
        default=None, gt=0, description="Seconds, without the time in which the run waits for input."
    )
    tool_calls: int | None = Field(default=None, ge=0)
    tokens: int | None = Field(default=None, ge=0, description="Tokens that the agent reports.")
    child_runs: int | None = Field(default=None, ge=0)


class StartRun(BaseModel):
    """A request to start a run. Fields that are not listed reach the agent as `request.extra`."""

    model_config = ConfigDict(extra="allow")

    input: list[MessageModel] | str = Field(description="Messages, or a string as one user message.")
    stream: bool | None = Field(
        default=None, description="If false, the answer is one JSON object instead of a stream."
    )
    agent: str | None = Field(
        default=None, description="Name of the agent; the core's default agent if omitted."
    )
    session_id: str | None = Field(default=None, description="Generated if omitted.")
    user_id: str | None = Field(default=None, description="The session's id if omitted.")
    id: str | None = Field(default=None, description="The caller's own request id; passed to the agent.")
    background: bool | None = Field(
        default=None, description="If true, the run continues after its readers disconnect."
    )
    idempotency_key: str | None = Field(
        default=None, description="A repeated request with the same key returns the first run."
    )
    if_session_busy: Literal["reject", "enqueue", "interrupt", "parallel"] | None = None
    timeout: float | None = Field(default=None, description="Seconds after which the run is stopped.")
    previous_run_id: str | None = Field(default=None, description="The run that this one continues.")
    fork_session: bool | None = Field(
        default=None, description="Continue in a new session; requires previous_run_id."
    )
    before_message_id: str | None = Field(
        default=None, description="Continue from the previous run's state before this message."
    )
    ephemeral: bool | None = Field(
        default=None, description="If true, the run is deleted a minute after its end."
    )
    budget: BudgetModel | None = None
    parent_run_id: str | None = Field(default=None, description="The run whose child run this becomes.")
    metadata: dict[str, Any] | None = Field(default=None, description="Returned with the run.")
    tools: list[dict[str, Any]] | None = Field(default=None, description="Functions that the caller offers.")
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
    """A run's response object, as in its events."""

    model_config = ConfigDict(extra="allow")

    sequence_number: int | None
    object: Literal["response"]
    status: RunStatusName
    error: Problem | None
    id: str
    created_at: int = Field(description="Seconds since 1970.")
    completed_at: int | None
    output: list[dict[str, Any]] | None
    usage: dict[str, Any] | None
    session_id: str


class RunModel(RunResponse):
    """A stored run."""

    user_id: str
    agent: str
    background: bool
    last_sequence_number: int
    updated_at: float


class RunPage(BaseModel):
    """A page of runs, newest first."""

    runs: list[RunModel]
    next_page_token: str = Field(description="Empty on the last page.")


class Interrupted(BaseModel):
    """The interrupted runs in their final state."""

    runs: list[RunModel]


class Asked(BaseModel):
    """Identifies the input request that is answered."""

    input_request_id: str | None = Field(default=None, description="The input request that this answers.")


class Answer(Asked):
    """Input for a run that is waiting for it."""

    input: list[MessageModel] | str


class Told(BaseModel):
    """Additional input for a run that is executing."""

    input: list[MessageModel] | str


class TaskSubmitted(BaseModel):
    """A run started in the background, in AgentScope Runtime's format."""

    task_id: str
    status: Literal["submitted"]
    queue: str
    message: str


class TaskStatus(BaseModel):
    """The state of a background run, in AgentScope Runtime's format."""

    status: Literal["pending", "running", "finished", "error"]
    result: dict[str, Any] | None


class Health(BaseModel):
    """The health of this process."""

    status: Literal["healthy"]
    mode: str
    runner: Literal["ready", "unavailable"] = Field(description="Whether the core serves.")


class Readiness(BaseModel):
    """This process is ready: the core serves."""

    status: Literal["ready"]


class Liveness(BaseModel):
    """This process is alive."""

    status: Literal["alive"]


class ServiceInfo(BaseModel):
    """The service and its endpoints."""

    service: str
    mode: str
    endpoints: dict[str, str]
