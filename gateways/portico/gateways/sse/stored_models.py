"""The JSON of what a core keeps beside runs: sessions, states, memories; and of agents."""

from typing import Any

from pydantic import BaseModel, Field

from portico.gateways.sse.errors import ErrorResponse
from portico.gateways.sse.models import Answer, MessageModel, RunResponse, StartRun, Told
from portico.gateways.sse.sandbox_models import SANDBOX_BODIES


class SessionCreate(BaseModel):
    user_id: str
    session_id: str | None = Field(default=None, description="Generated when left out.")
    metadata: dict[str, Any] | None = None


class SessionUpdate(BaseModel):
    metadata: dict[str, Any] | None = Field(description="Replaces what was there.")


class SessionModel(BaseModel):
    """A conversation, without its messages."""

    user_id: str
    session_id: str
    created_at: float
    updated_at: float
    message_count: int
    metadata: dict[str, Any] | None


class SessionPage(BaseModel):
    sessions: list[SessionModel]
    next_page_token: str


class AppendMessages(BaseModel):
    messages: list[MessageModel] | str


class StoredMessageModel(BaseModel):
    """A message in its place."""

    position: int
    created_at: float
    run_id: str
    message: dict[str, Any]


class MessagePage(BaseModel):
    messages: list[StoredMessageModel]
    next_page_token: str


class Appended(BaseModel):
    messages: list[StoredMessageModel]


class SessionHitModel(BaseModel):
    session_id: str
    score: float = Field(description="Larger is better.")
    message: StoredMessageModel


class SessionHits(BaseModel):
    hits: list[SessionHitModel]


class StateModel(BaseModel):
    """One round of an agent's state."""

    user_id: str
    session_id: str
    round_id: int
    etag: str
    updated_at: float
    state: dict[str, Any] | None = Field(default=None, description="Not in lists and answers to a save.")


class StatePage(BaseModel):
    states: list[StateModel]
    next_page_token: str


class Deleted(BaseModel):
    """How many were removed."""

    deleted: int


class NewMemory(BaseModel):
    text: str
    session_id: str = ""
    metadata: dict[str, Any] | None = None


class AddMemories(BaseModel):
    user_id: str
    memories: list[NewMemory]


class MemoryModel(BaseModel):
    """One thing remembered."""

    memory_id: str
    user_id: str
    session_id: str
    text: str
    metadata: dict[str, Any] | None
    created_at: float


class MemoriesAdded(BaseModel):
    memories: list[MemoryModel]


class MemoryPage(BaseModel):
    memories: list[MemoryModel]
    next_page_token: str


class SearchMemories(BaseModel):
    user_id: str
    query: str
    top_k: int = Field(default=10, ge=1, le=100)
    session_id: str | None = None
    metadata: dict[str, str] = Field(default_factory=dict, description="Members that must have these values.")


class MemoryHitModel(BaseModel):
    score: float = Field(description="Larger is better.")
    memory: MemoryModel


class MemoryHits(BaseModel):
    hits: list[MemoryHitModel]


class Forgotten(BaseModel):
    """How many of each were removed."""

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
    path: str
    methods: list[str]
    streaming: bool
    description: str


class SkillModel(BaseModel):
    id: str
    name: str
    description: str
    tags: list[str]
    examples: list[str]


class AgentModel(BaseModel):
    """What the core knows of an agent."""

    name: str
    description: str
    version: str
    input_modes: list[str]
    output_modes: list[str]
    skills: list[SkillModel]
    endpoints: list[EndpointModel]
    is_default: bool


class AgentPage(BaseModel):
    agents: list[AgentModel]
    next_page_token: str


# What only OpenAPI written by hand refers to.
NAMED_BY_HAND: tuple[type[BaseModel], ...] = (
    StartRun,
    RunResponse,
    Answer,
    Told,
    AppendMessages,
    SessionCreate,
    SessionUpdate,
    AddMemories,
    SearchMemories,
    *SANDBOX_BODIES,
    ErrorResponse,
)
