"""Models of stored data (sessions, states, memories) and of agents, for bodies and OpenAPI."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from portico.gateways.sse.errors import ErrorResponse
from portico.gateways.sse.run_schemas import Answer, MessageModel, RunResponse, StartRun, Told
from portico.gateways.sse.sandbox.sandbox_schemas import SANDBOX_BODIES, Given

RoleName = Literal["assistant", "user", "system", "tool"]
TypeName = Literal[
    "message",
    "function_call",
    "function_call_output",
    "plugin_call",
    "plugin_call_output",
    "component_call",
    "component_call_output",
    "mcp_list_tools",
    "mcp_approval_request",
    "mcp_call",
    "mcp_approval_response",
    "mcp_call_output",
    "reasoning",
    "heartbeat",
    "error",
    "a2ui_response",
    "a2ui_action",
]


class SessionCreate(Given):
    """A session to create."""

    user_id: str
    session_id: str | None = Field(default=None, description="Generated if omitted.")
    metadata: dict[str, Any] | None = None


class SessionUpdate(Given):
    """New metadata for a session."""

    metadata: dict[str, Any] | None = Field(description="Replaces the old metadata.")


class SessionModel(BaseModel):
    """A conversation, without its messages."""

    user_id: str
    session_id: str
    created_at: float
    updated_at: float
    message_count: int
    metadata: dict[str, Any] | None


class SessionPage(BaseModel):
    """A page of sessions, the last used first."""

    sessions: list[SessionModel]
    next_page_token: str


class AppendMessages(BaseModel):
    """Messages to append to a session."""

    messages: list[MessageModel] | str


class StoredMessageModel(BaseModel):
    """A message and its position in the session."""

    position: int
    created_at: float
    run_id: str
    message: dict[str, Any]


class MessagePage(BaseModel):
    """A page of messages."""

    messages: list[StoredMessageModel]
    next_page_token: str


class Appended(BaseModel):
    """The messages that were appended."""

    messages: list[StoredMessageModel]


class TextRange(BaseModel):
    """A part of a text, in Unicode code points."""

    start: int
    end: int = Field(description="The position after the last one.")


class HighlightModel(BaseModel):
    """A piece of a message's text, and the ranges that match words of the query."""

    text: str
    ranges: list[TextRange]


class SessionHitModel(BaseModel):
    """A message that matches a search."""

    session_id: str
    score: float = Field(description="Larger is better.")
    message: StoredMessageModel
    highlights: list[HighlightModel] = Field(description="Empty unless requested.")


class SessionHits(BaseModel):
    """The best matches, best first."""

    hits: list[SessionHitModel]


class StateModel(BaseModel):
    """One round of an agent's state."""

    user_id: str
    session_id: str
    round_id: int
    etag: str
    updated_at: float
    state: dict[str, Any] | None = Field(default=None, description="Absent in lists and answers to a save.")


class StatePage(BaseModel):
    """A page of states."""

    states: list[StateModel]
    next_page_token: str


class Deleted(BaseModel):
    """The number of deleted items."""

    deleted: int


Moment = Annotated[float, Field(ge=-62_135_596_800, lt=253_402_300_799, allow_inf_nan=False)]


class NewMemory(Given):
    """A memory to store."""

    text: str
    session_id: str = ""
    metadata: dict[str, Any] | None = None
    key: str = Field(
        default="", description="The caller's own name for the memory; replaces the memory with this key."
    )
    created_at: Moment | None = Field(default=None, description="Seconds since 1970; now if omitted.")
    expires_at: Moment | None = Field(
        default=None, description="Seconds since 1970 from which on it is no longer found."
    )


class MemoryUpdate(BaseModel):
    """The fields to change; omitted fields stay, null removes a value."""

    model_config = ConfigDict(extra="forbid")

    text: str = ""
    metadata: dict[str, Any] | None = None
    session_id: str | None = None
    expires_at: Moment | None = None


class AddMemories(Given):
    """Memories of one user to store."""

    user_id: str
    memories: list[NewMemory]


class MemoryModel(BaseModel):
    """A memory."""

    memory_id: str
    user_id: str
    session_id: str
    text: str
    metadata: dict[str, Any] | None
    key: str
    created_at: float
    updated_at: float
    expires_at: float | None


class MetadataCondition(BaseModel):
    """Compares one member of the metadata."""

    model_config = ConfigDict(extra="forbid")

    path: str | list[str] = Field(
        description="A member's name, or the names that lead to it, outermost first."
    )
    operator: Literal["eq", "ne", "lt", "le", "gt", "ge", "in", "not_in", "exists", "prefix"]
    value: Any = Field(
        description="A string, a number, true, false or null; a list of them for in and not_in."
    )


class MetadataFilter(BaseModel):
    """Selects by metadata; all of its conditions must hold, at most 32."""

    model_config = ConfigDict(extra="forbid")

    all: list[MetadataCondition] = Field(default_factory=list, description="All of these must hold.")
    any: list[list[MetadataCondition]] = Field(
        default_factory=list, description="At least one of each list must hold."
    )


class MemoriesAdded(BaseModel):
    """The stored memories."""

    memories: list[MemoryModel]


class MemoryPage(BaseModel):
    """A page of memories, newest first."""

    memories: list[MemoryModel]
    next_page_token: str


class SearchMemories(Given):
    """A search in a user's memories."""

    user_id: str
    query: str
    top_k: int = Field(default=10, ge=1, le=100)
    session_id: str | None = None
    metadata: dict[str, str] = Field(
        default_factory=dict, description="Members that must have these values, compared as strings."
    )
    filter: MetadataFilter | None = None


class MemoryHitModel(BaseModel):
    """A memory that matches a search."""

    score: float = Field(description="Larger is better.")
    memory: MemoryModel


class MemoryHits(BaseModel):
    """The best matches, best first."""

    hits: list[MemoryHitModel]


class Forgotten(BaseModel):
    """The number of deleted items by kind."""

    runs: int
    sessions: int
    messages: int
    states: int
    memories: int
    push_configs: int
    sandboxes: int
    snapshots: int
    keys: int


class EndpointModel(BaseModel):
    """An endpoint of an agent."""

    path: str
    methods: list[str]
    streaming: bool
    description: str


class SkillModel(BaseModel):
    """A skill of an agent."""

    id: str
    name: str
    description: str
    tags: list[str]
    examples: list[str]


class AgentModel(BaseModel):
    """An agent that the core serves."""

    name: str
    description: str
    version: str
    input_modes: list[str]
    output_modes: list[str]
    skills: list[SkillModel]
    endpoints: list[EndpointModel]
    is_default: bool


class AgentPage(BaseModel):
    """A page of agents by name."""

    agents: list[AgentModel]
    next_page_token: str


# Models that only hand-written OpenAPI refers to.
NAMED_BY_HAND: tuple[type[BaseModel], ...] = (
    StartRun,
    RunResponse,
    Answer,
    Told,
    AppendMessages,
    SessionCreate,
    SessionUpdate,
    AddMemories,
    MemoryUpdate,
    MetadataFilter,
    SearchMemories,
    *SANDBOX_BODIES,
    ErrorResponse,
)
