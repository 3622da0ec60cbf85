"""The agent protocol's objects, under the reference's names."""

from portico.agent.protocol import (
    AgentRequest,
    AudioContent,
    Content,
    DataContent,
    Error,
    FileContent,
    ImageContent,
    Message,
    MessageType,
    RefusalContent,
    Role,
    TextContent,
    Tool,
    VideoContent,
)
from portico.agent.protocol import Status as RunStatus

__all__ = [
    "AgentRequest",
    "AudioContent",
    "Content",
    "DataContent",
    "Error",
    "FileContent",
    "ImageContent",
    "Message",
    "MessageType",
    "RefusalContent",
    "Role",
    "RunStatus",
    "TextContent",
    "Tool",
    "VideoContent",
]
