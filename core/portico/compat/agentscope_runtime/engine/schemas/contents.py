"""Events and contents of the agent protocol; as in the reference, they are mutable."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from portico.compat.agentscope_runtime.engine.schemas.enums_and_calls import Error, RunStatus


class Event(BaseModel):
    """The base class of streamed objects."""

    model_config = ConfigDict(extra="allow")

    sequence_number: int | None = None
    object: str
    status: str | None = None
    error: Error | None = None

    def created(self) -> Self:
        return self._now(RunStatus.Created)

    def in_progress(self) -> Self:
        return self._now(RunStatus.InProgress)

    def completed(self) -> Self:
        return self._now(RunStatus.Completed)

    def failed(self, error: Error) -> Self:
        self.error = error
        return self._now(RunStatus.Failed)

    def rejected(self) -> Self:
        return self._now(RunStatus.Rejected)

    def canceled(self) -> Self:
        return self._now(RunStatus.Canceled)

    def _now(self, status: str) -> Self:
        self.status = status
        return self


class Content(Event):
    """A part of a message."""

    type: str
    object: str = "content"
    index: int | None = None
    delta: bool | None = False
    msg_id: str | None = None

    @staticmethod
    def from_chat_completion_chunk(
        chunk: Any, index: int | None = None
    ) -> "TextContent | DataContent | None":
        """Returns the content that a chunk of OpenAI's chat completions adds; None when there is none."""
        if not chunk.choices:
            return None
        delta = chunk.choices[0].delta
        if delta.content is not None:
            return TextContent(delta=True, text=delta.content, index=index)
        call = delta.tool_calls[0] if delta.tool_calls else None
        if call is None or call.function is None:
            return None
        data = {"call_id": call.id, "name": call.function.name, "arguments": call.function.arguments}
        return DataContent(delta=True, data=data, index=index)


class TextContent(Content):
    type: Literal["text"] = "text"
    text: str | None = None


class ImageContent(Content):
    type: Literal["image"] = "image"
    image_url: str | None = None


class DataContent(Content):
    type: Literal["data"] = "data"
    data: dict[str, Any] | None = None


class AudioContent(Content):
    """`data` is base64 text, or a URL."""

    type: Literal["audio"] = "audio"
    data: str | None = None
    format: str | None = None


class VideoContent(Content):
    type: Literal["video"] = "video"
    video_url: str | None = None


class FileContent(Content):
    type: Literal["file"] = "file"
    file_url: str | None = None
    file_id: str | None = None
    filename: str | None = None
    file_data: str | None = None


class RefusalContent(Content):
    type: Literal["refusal"] = "refusal"
    refusal: str | None = None


AgentContent = Annotated[
    TextContent | ImageContent | DataContent | AudioContent | FileContent | RefusalContent | VideoContent,
    Field(discriminator="type"),
]
