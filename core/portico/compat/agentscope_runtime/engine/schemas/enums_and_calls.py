"""The enums of the agent protocol, and the parts of tool calls, as in the reference."""

from typing import Any

from pydantic import BaseModel


class MessageType:
    """The type of a message."""

    MESSAGE = "message"
    FUNCTION_CALL = "function_call"
    FUNCTION_CALL_OUTPUT = "function_call_output"
    PLUGIN_CALL = "plugin_call"
    PLUGIN_CALL_OUTPUT = "plugin_call_output"
    COMPONENT_CALL = "component_call"
    COMPONENT_CALL_OUTPUT = "component_call_output"
    MCP_LIST_TOOLS = "mcp_list_tools"
    MCP_APPROVAL_REQUEST = "mcp_approval_request"
    MCP_TOOL_CALL = "mcp_call"
    MCP_APPROVAL_RESPONSE = "mcp_approval_response"
    MCP_TOOL_CALL_OUTPUT = "mcp_call_output"
    REASONING = "reasoning"
    HEARTBEAT = "heartbeat"
    ERROR = "error"
    A2UI_RESPONSE = "a2ui_response"
    A2UI_ACTION = "a2ui_action"

    @classmethod
    def all_values(cls) -> list[str]:
        return [value for name, value in vars(cls).items() if name.isupper()]


class ContentType:
    """The type of a content."""

    TEXT = "text"
    DATA = "data"
    IMAGE = "image"
    AUDIO = "audio"
    FILE = "file"
    REFUSAL = "refusal"
    VIDEO = "video"


class Role:
    """The author of a message."""

    ASSISTANT = "assistant"
    USER = "user"
    SYSTEM = "system"
    TOOL = "tool"


class RunStatus:
    """The state of a response, a message or a content."""

    Created = "created"
    InProgress = "in_progress"
    Completed = "completed"
    Canceled = "canceled"
    Failed = "failed"
    Rejected = "rejected"
    Unknown = "unknown"
    Queued = "queued"
    Incomplete = "incomplete"


class FunctionParameters(BaseModel):
    """A JSON Schema of an object."""

    type: str
    properties: dict[str, Any]
    required: list[str] | None


class FunctionTool(BaseModel):
    """A function that a model may call."""

    name: str
    description: str
    parameters: FunctionParameters | dict[str, Any]


class Tool(BaseModel):
    """A tool that a caller offers to a model."""

    type: str | None = "function"
    function: FunctionTool | None = None


class FunctionCall(BaseModel):
    """The data of a call; the arguments are JSON text as the model wrote it."""

    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None


class FunctionCallOutput(BaseModel):
    """The data of a call's result."""

    call_id: str
    name: str | None = None
    output: str


class ToolCall(BaseModel):
    """A complete call."""

    arguments: str
    call_id: str
    name: str


class ToolCallOutput(BaseModel):
    """A result without the tool's name."""

    call_id: str
    output: str


class McpCall(BaseModel):
    """The data of a call of an MCP server's tool."""

    call_id: str | None = None
    arguments: str | None = None
    name: str | None = None
    server_label: str | None = None


class McpCallOutput(BaseModel):
    """The data of an MCP call's result."""

    call_id: str
    name: str | None = None
    output: str


class McpListToolsTool(BaseModel):
    """A tool of an MCP server."""

    input_schema: object
    name: str
    annotations: object | None = None
    description: str | None = None


class McpListTools(BaseModel):
    """All tools of an MCP server."""

    id: str
    server_label: str
    tools: list[McpListToolsTool]
    error: str | None = None


class McpApprovalRequest(BaseModel):
    """A request for approval of a tool call."""

    id: str
    arguments: str
    name: str
    server_label: str


class McpApprovalResponse(BaseModel):
    """The answer to a request for approval."""

    approval_request_id: str
    approve: bool
    id: str | None = None
    reason: str | None = None


class Error(BaseModel):
    """An error: a stable code, and a text."""

    code: str
    message: str
