"""Objects of the agent protocol: requests, messages, contents, statuses.

Frozen dataclasses. Names and values are those of AgentScope Runtime's protocol,
for compatibility with its clients and agents.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from portico.model.run_status import Status as Status


class Role(StrEnum):
    """Author of a message."""

    ASSISTANT = "assistant"
    USER = "user"
    SYSTEM = "system"
    TOOL = "tool"


class MessageType(StrEnum):
    """Kind of a message."""

    MESSAGE = "message"
    FUNCTION_CALL = "function_call"
    FUNCTION_CALL_OUTPUT = "function_call_output"
    PLUGIN_CALL = "plugin_call"
    PLUGIN_CALL_OUTPUT = "plugin_call_output"
    COMPONENT_CALL = "component_call"
    COMPONENT_CALL_OUTPUT = "component_call_output"
    MCP_LIST_TOOLS = "mcp_list_tools"
    MCP_APPROVAL_REQUEST = "mcp_approval_request"
    MCP_CALL = "mcp_call"
    MCP_APPROVAL_RESPONSE = "mcp_approval_response"
    MCP_CALL_OUTPUT = "mcp_call_output"
    REASONING = "reasoning"
    HEARTBEAT = "heartbeat"
    ERROR = "error"
    A2UI_RESPONSE = "a2ui_response"
    A2UI_ACTION = "a2ui_action"


@dataclass(frozen=True, slots=True, kw_only=True)
class ContentFields:
    """Fields that every content has."""

    media_type: str = ""  # set if the content itself does not carry it
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TextContent(ContentFields):
    text: str


@dataclass(frozen=True, slots=True)
class DataContent(ContentFields):
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ImageContent(ContentFields):
    image_url: str


@dataclass(frozen=True, slots=True)
class AudioContent(ContentFields):
    data: str
    format: str = ""


@dataclass(frozen=True, slots=True)
class FileContent(ContentFields):
    file_url: str = ""
    file_id: str = ""
    filename: str = ""
    file_data: str = ""


@dataclass(frozen=True, slots=True)
class RefusalContent(ContentFields):
    refusal: str


@dataclass(frozen=True, slots=True)
class VideoContent(ContentFields):
    video_url: str


Content = (
    TextContent | DataContent | ImageContent | AudioContent | FileContent | RefusalContent | VideoContent
)
CONTENT_TYPES = (
    TextContent,
    DataContent,
    ImageContent,
    AudioContent,
    FileContent,
    RefusalContent,
    VideoContent,
)


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that a model consumed; `total` is input plus output if total_tokens is 0."""

    input_tokens: int = 0
    output_tokens: int = 0
    total_tokens: int = 0
    cached_input_tokens: int = 0
    reasoning_output_tokens: int = 0
    details: Mapping[str, Any] = field(default_factory=dict)

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.total + other.total,
            self.cached_input_tokens + other.cached_input_tokens,
            self.reasoning_output_tokens + other.reasoning_output_tokens,
            {**self.details, **other.details},
        )

    @property
    def total(self) -> int:
        return self.total_tokens or self.input_tokens + self.output_tokens


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits of a run, its child runs included; None means no limit."""

    wall_time: float | None = None  # seconds
    tool_calls: int | None = None
    tokens: int | None = None
    child_runs: int | None = None


@dataclass(frozen=True, slots=True)
class Error:
    """An error as data: a stable code and a message for people."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Message:
    """A message: text or other contents, a tool call, or a tool's output."""

    role: Role = Role.ASSISTANT
    content: Sequence[Content] = ()
    type: MessageType = MessageType.MESSAGE
    id: str = ""  # Portico generates one if empty
    status: Status = Status.CREATED
    metadata: Mapping[str, Any] = field(default_factory=dict)
    usage: Usage | None = None
    error: Error | None = None
    extensions: Sequence[str] = ()  # URIs of the protocol extensions that the message uses
    reference_run_ids: Sequence[str] = ()  # other runs that the message refers to

    def __post_init__(self) -> None:
        # Authors may write plain strings for the enums and for a list with one text content.
        if not isinstance(self.role, Role):
            object.__setattr__(self, "role", Role(self.role))
        if not isinstance(self.type, MessageType):
            object.__setattr__(self, "type", MessageType(self.type))
        if isinstance(self.content, str):
            object.__setattr__(self, "content", (TextContent(self.content),))
        for part in self.content:
            if not isinstance(part, CONTENT_TYPES):
                raise TypeError(f"a message's content must be contents, not {type(part).__name__}")

    @property
    def text(self) -> str:
        """All text of the message, joined."""
        return "".join(part.text for part in self.content if isinstance(part, TextContent))


@dataclass(frozen=True, slots=True)
class ModelParameters:
    """Model parameters that the caller requests; None means not specified."""

    model: str | None = None
    top_p: float | None = None
    temperature: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    max_tokens: int | None = None
    stop: Sequence[str] = ()
    n: int | None = None
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the caller offers to the agent; `parameters` is a JSON Schema."""

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    type: str = "function"
    raw: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AgentRequest:
    """The request that starts a run.

    `accepted_output_modes` are the media types that the caller accepts, such as text/plain or image/*; empty
    means all.
    """

    agent_name: str
    input: Sequence[Message]
    session_id: str
    user_id: str
    parameters: ModelParameters = field(default_factory=ModelParameters)
    tools: Sequence[Tool] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    request_id: str = ""
    accepted_output_modes: Sequence[str] = ()
