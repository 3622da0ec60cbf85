"""Messages, requests and responses of the agent protocol, under the reference's names."""

from copy import deepcopy
from datetime import datetime
from typing import Any, Literal, Self
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field, field_validator

from portico.compat.agentscope_runtime.engine.schemas.contents import (
    AgentContent,
    AudioContent,
    Content,
    DataContent,
    Event,
    FileContent,
    ImageContent,
    RefusalContent,
    TextContent,
    VideoContent,
)
from portico.compat.agentscope_runtime.engine.schemas.enums_and_calls import (
    ContentType,
    Error,
    FunctionCall,
    FunctionCallOutput,
    FunctionParameters,
    FunctionTool,
    McpApprovalRequest,
    McpApprovalResponse,
    McpCall,
    McpCallOutput,
    McpListTools,
    McpListToolsTool,
    MessageType,
    Role,
    RunStatus,
    Tool,
    ToolCall,
    ToolCallOutput,
)

__all__ = [
    "AgentContent",
    "AgentRequest",
    "AgentResponse",
    "AgentRole",
    "AudioContent",
    "BaseRequest",
    "BaseResponse",
    "Content",
    "ContentType",
    "DataContent",
    "Error",
    "Event",
    "FileContent",
    "FunctionCall",
    "FunctionCallOutput",
    "FunctionParameters",
    "FunctionTool",
    "ImageContent",
    "McpApprovalRequest",
    "McpApprovalResponse",
    "McpCall",
    "McpCallOutput",
    "McpListTools",
    "McpListToolsTool",
    "Message",
    "MessageType",
    "RefusalContent",
    "Role",
    "RunStatus",
    "SequenceNumberGenerator",
    "TextContent",
    "Tool",
    "ToolCall",
    "ToolCallOutput",
    "VideoContent",
]

AgentRole = Literal["assistant", "system", "user", "tool"]


class Message(Event):
    """A message, a tool call or a tool result."""

    id: str = Field(default_factory=lambda: f"msg_{uuid4()}")
    object: str = "message"
    type: str = MessageType.MESSAGE
    status: str | None = RunStatus.Created
    role: AgentRole | None = None
    content: list[AgentContent] | None = None
    code: str | None = None
    message: str | None = None
    usage: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None

    @staticmethod
    def from_openai_message(message: "BaseModel | dict[str, Any]") -> "Message":
        """Converts a chat message of OpenAI; a message of this class is returned unchanged."""
        if isinstance(message, Message):
            return message
        told = message.model_dump() if isinstance(message, BaseModel) else message
        if told.get("type") in MessageType.all_values():
            return Message(**told)
        if told["role"] == Role.ASSISTANT and told.get("tool_calls"):
            calls: list[AgentContent] = [
                DataContent(data=FunctionCall(call_id=call["id"], **call["function"]).model_dump())
                for call in told["tool_calls"]
            ]
            return Message(type=MessageType.FUNCTION_CALL, role="assistant", content=calls)
        if told["role"] == Role.TOOL:
            output = FunctionCallOutput(call_id=told["tool_call_id"], output=told["content"])
            content = DataContent(data=output.model_dump())
            return Message(type=MessageType.FUNCTION_CALL_OUTPUT, role="tool", content=[content])
        said = told["content"]
        parts = [{"type": "text", "text": said}] if isinstance(said, str) else said or []
        return Message(role=told["role"], content=[_openai_part(part) for part in parts])

    def get_text_content(self) -> str | None:
        """Returns the first text; None when there is none."""
        return next((part.text for part in self.content or () if isinstance(part, TextContent)), None)

    def get_image_content(self) -> list[str]:
        return [part.image_url or "" for part in self.content or () if isinstance(part, ImageContent)]

    def get_audio_content(self) -> list[str]:
        return [part.data or "" for part in self.content or () if isinstance(part, AudioContent)]

    def add_delta_content(self, new_content: Any) -> Any:
        """Appends a piece to the content with its index, or begins a content. Returns the piece to stream."""
        self.content = self.content or []
        if new_content.index is None:
            begun = deepcopy(new_content)
            begun.delta, begun.index, begun.msg_id = None, len(self.content), self.id
            self.content.append(begun)
            new_content.index = begun.index
        elif new_content.delta is True:
            _join(self.content[new_content.index], new_content)
        else:
            return None
        new_content.msg_id = self.id
        return new_content.in_progress()

    def content_completed(self, content_index: int) -> Any:
        """Returns a copy of a completed content; None when there is no such content."""
        if self.content is None or content_index >= len(self.content):
            return None
        whole = deepcopy(self.content[content_index])
        whole.delta, whole.index, whole.msg_id = False, content_index, self.id
        return whole.completed()

    def add_content(self, new_content: Any) -> Any:
        """Adds a complete content; returns None when its index exists already."""
        self.content = self.content or []
        if new_content.index is not None:
            return None
        self.content.append(deepcopy(new_content))
        new_content.index, new_content.msg_id = len(self.content) - 1, self.id
        return new_content.completed()


def _openai_part(part: dict[str, Any]) -> AgentContent:
    if part["type"] == "image_url":
        return ImageContent(image_url=part["image_url"]["url"])
    if part["type"] == "input_audio":
        return AudioContent(data=part["input_audio"]["data"], format=part["input_audio"].get("format"))
    if part["type"] == "file":
        about = part["file"]
        return FileContent(**{name: about.get(name) for name in ("file_id", "filename", "file_data")})
    return TextContent(text=part["text"]) if part["type"] == "text" else DataContent(data=dict(part))


def _join(content: Any, piece: Any) -> None:
    if isinstance(content, TextContent):
        content.text = (content.text or "") + (piece.text or "")
    elif isinstance(content, ImageContent):
        content.image_url = (content.image_url or "") + (piece.image_url or "")
    elif isinstance(content, DataContent):
        content.data = content.data or {}
        for key, value in (piece.data or {}).items():
            kept = content.data.get(key)
            grows = isinstance(kept, list | str) and isinstance(value, type(kept))
            content.data[key] = kept + value if grows else value


class BaseRequest(BaseModel):
    """The fields that every request has."""

    input: list[Message]
    stream: bool = True
    id: str | None = None


class AgentRequest(BaseRequest):
    """A request to an agent. Additional fields of the caller are attributes of the same name."""

    model_config = ConfigDict(extra="allow")

    model: str | None = None
    top_p: float | None = None
    temperature: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    max_tokens: int | None = None
    stop: str | list[str] | None = None
    n: int | None = Field(default=1, ge=1, le=5)
    seed: int | None = None
    tools: list[Tool | dict[str, Any]] | None = None
    session_id: str | None = None
    user_id: str | None = None


class BaseResponse(Event):
    """The fields that every response has. Times are in seconds since 1970."""

    id: str | None = Field(default_factory=lambda: f"response_{uuid4()}")
    object: str = "response"
    status: str | None = RunStatus.Created
    created_at: int = Field(default_factory=lambda: int(datetime.now().timestamp()))
    completed_at: int | None = None
    output: list[Message] | None = None
    usage: dict[str, Any] | None = None

    @field_validator("id", mode="before")
    @classmethod
    def validate_id(cls, v: str | None) -> str:
        return f"response_{uuid4()}" if v is None else v

    def add_new_message(self, message: Message) -> None:
        self.output = [*(self.output or ()), message]

    def completed(self) -> Self:
        self.completed_at = int(datetime.now().timestamp())
        self.output = self.output or []
        return super().completed()


class AgentResponse(BaseResponse):
    """The response of an agent."""

    session_id: str | None = None


class SequenceNumberGenerator:
    """Numbers events consecutively."""

    def __init__(self, start: int = 0) -> None:
        self._current = start

    def next(self) -> int:
        self._current += 1
        return self._current - 1

    def yield_with_sequence(self, event: Event) -> Event:
        event.sequence_number = self.next()
        return event
