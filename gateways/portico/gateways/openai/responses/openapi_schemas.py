"""Models of responses and conversations for OpenAPI."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class ResponseObject(BaseModel):
    """A Response of OpenAI's API. Responses always have more members than listed here."""

    model_config = ConfigDict(extra="allow")

    id: str = Field(description="The run's id; with `_2`, `_3` ... for later responses of the same run.")
    object: Literal["response"]
    created_at: int
    completed_at: int | None
    status: Literal["queued", "in_progress", "completed", "failed", "cancelled", "incomplete"]
    model: str = Field(description="The agent's name.")
    output: list[dict[str, Any]]
    error: dict[str, Any] | None
    incomplete_details: dict[str, Any] | None
    usage: dict[str, Any] | None
    metadata: dict[str, str]


class Deleted(BaseModel):
    """The result of a deletion."""

    id: str
    object: str
    deleted: bool


class ItemList(BaseModel):
    """A page of items."""

    object: Literal["list"]
    data: list[dict[str, Any]]
    first_id: str
    last_id: str
    has_more: bool


class TokenCount(BaseModel):
    """An estimated number of input tokens."""

    object: Literal["response.input_tokens"]
    input_tokens: int


class CompactedObject(BaseModel):
    """A compacted conversation."""

    id: str
    object: Literal["response.compaction"]
    created_at: int
    output: list[dict[str, Any]]
    usage: dict[str, Any]


class ConversationObject(BaseModel):
    """A conversation, without its items."""

    id: str
    object: Literal["conversation"]
    created_at: int
    metadata: dict[str, str]
