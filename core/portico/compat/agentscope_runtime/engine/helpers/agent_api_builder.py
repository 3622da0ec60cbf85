"""Builders for a stream of events: a response with messages with contents."""

import time
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

from portico.compat.agentscope_runtime.engine.schemas.agent_schemas import (
    AgentResponse,
    AudioContent,
    ContentType,
    DataContent,
    Event,
    FileContent,
    ImageContent,
    Message,
    RefusalContent,
    Role,
    TextContent,
    VideoContent,
)

_CONTENTS: dict[str, Any] = {
    ContentType.TEXT: TextContent,
    ContentType.IMAGE: ImageContent,
    ContentType.DATA: DataContent,
    ContentType.REFUSAL: RefusalContent,
    ContentType.FILE: FileContent,
    ContentType.AUDIO: AudioContent,
    ContentType.VIDEO: VideoContent,
}


class ContentBuilder:
    """Builds one content of a message. Raises ValueError for data of another type."""

    def __init__(
        self, message_builder: "MessageBuilder", content_type: str = ContentType.TEXT, index: int = 0
    ) -> None:
        if content_type not in _CONTENTS:
            raise ValueError(f"Unsupported content type: {content_type}")
        self.message_builder = message_builder
        self.content_type = content_type
        self.index = index
        self.text_tokens: list[str] = []
        self.data_deltas: list[dict[str, Any]] = []
        self.content: Any = _CONTENTS[content_type](index=index, msg_id=message_builder.message.id)

    def _only(self, content_type: str, method: str) -> None:
        if self.content_type != content_type:
            raise ValueError(f"{method} only supported for {content_type} content")

    def _piece(self, **said: Any) -> Any:
        piece = _CONTENTS[self.content_type](
            index=self.index, delta=True, msg_id=self.message_builder.message.id, **said
        )
        return piece.in_progress()

    def add_text_delta(self, text: str) -> TextContent:
        """Appends text; returns the piece to stream."""
        self._only(ContentType.TEXT, "add_text_delta")
        self.text_tokens.append(text or "")
        piece: TextContent = self._piece(text=text or "")
        return piece

    def add_delta(self, text: str) -> TextContent:
        return self.add_text_delta(text)

    def set_text(self, text: str) -> TextContent:
        self._only(ContentType.TEXT, "set_text")
        return self._set("text", text)

    def set_refusal(self, text: str) -> RefusalContent:
        self._only(ContentType.REFUSAL, "set_refusal")
        return self._set("refusal", text)

    def set_image_url(self, image_url: str) -> ImageContent:
        self._only(ContentType.IMAGE, "set_image_url")
        return self._set("image_url", image_url)

    def set_data(self, data: dict[str, Any]) -> DataContent:
        self._only(ContentType.DATA, "set_data")
        return self._set("data", data)

    def update_data(self, key: str, value: Any) -> DataContent:
        """Sets one member of the data."""
        self._only(ContentType.DATA, "update_data")
        return self._set("data", {**(self.content.data or {}), key: value})

    def _set(self, name: str, value: Any) -> Any:
        setattr(self.content, name, value)
        return self.content.in_progress()

    def add_data_delta(self, delta_data: dict[str, Any]) -> DataContent:
        """Adds data; returns the piece to stream. Texts, numbers, lists and objects with one name join."""
        self._only(ContentType.DATA, "add_data_delta")
        self.data_deltas.append(delta_data)
        piece: DataContent = self._piece(data=delta_data)
        return piece

    def complete(self) -> Any:
        """Completes the content and adds it to the message."""
        if self.content_type == ContentType.TEXT:
            if self.text_tokens:
                self.content.text = (self.content.text or "") + "".join(self.text_tokens)
            self.content.delta = False
        elif self.content_type == ContentType.DATA:
            for delta in self.data_deltas:
                self.content.data = _merged(self.content.data or {}, delta)
            self.content.delta = False
        self.content.completed()
        self.message_builder.add_content(self.content)
        return self.content

    def get_content_data(self) -> Any:
        return self.content


def _merged(base: dict[str, Any], delta: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, new in delta.items():
        old = merged.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            merged[key] = _merged(old, new)
        elif (isinstance(old, str | list) and isinstance(new, type(old))) or (_number(old) and _number(new)):
            merged[key] = old + new  # type: ignore[operator]
        else:
            merged[key] = new
    return merged


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


class MessageBuilder:
    """Builds one message of a response; the message is added to the response immediately."""

    def __init__(self, response_builder: "ResponseBuilder", role: str = Role.ASSISTANT) -> None:
        self.response_builder = response_builder
        self.role = role
        self.message_id = f"msg_{uuid4()}"
        self.content_builders: list[ContentBuilder] = []
        self.message = Message.model_validate({"id": self.message_id, "role": role}).in_progress()
        response_builder.add_message(self.message)

    def create_content_builder(self, content_type: str = ContentType.TEXT) -> ContentBuilder:
        builder = ContentBuilder(self, content_type, len(self.content_builders))
        self.content_builders.append(builder)
        return builder

    def add_content(self, content: Any) -> None:
        """Replaces the content with the same index, or appends the content."""
        contents = self.message.content = self.message.content or []
        place = next((at for at, one in enumerate(contents) if one.index == content.index), len(contents))
        contents[place : place + 1] = [content]
        self.response_builder.update_message(self.message)

    def get_message_data(self) -> Message:
        return self.message

    def complete(self) -> Message:
        self.message.completed()
        self.response_builder.update_message(self.message)
        return self.message


class ResponseBuilder:
    """Builds a response and its messages."""

    def __init__(self, session_id: str | None = None, response_id: str | None = None) -> None:
        self.session_id = session_id
        self._begin(response_id)

    def _begin(self, response_id: str | None) -> None:
        self.response_id = response_id
        self.created_at = int(time.time())
        self.message_builders: list[MessageBuilder] = []
        self.response = AgentResponse(
            id=response_id, session_id=self.session_id, created_at=self.created_at, output=[]
        )

    def reset(self) -> None:
        """Begins another response with a new id."""
        self._begin(f"response_{uuid4()}")

    def get_response_data(self) -> AgentResponse:
        return self.response

    def created(self) -> AgentResponse:
        return self.response.created()

    def in_progress(self) -> AgentResponse:
        return self.response.in_progress()

    def completed(self) -> AgentResponse:
        return self.response.completed()

    def create_message_builder(
        self, role: str = Role.ASSISTANT, message_type: str = "message"
    ) -> MessageBuilder:
        builder = MessageBuilder(self, role)
        builder.message.type = message_type
        self.message_builders.append(builder)
        return builder

    def add_message(self, message: Message) -> None:
        """Replaces the message with the same id, or appends the message."""
        output = self.response.output = self.response.output or []
        place = next((at for at, one in enumerate(output) if one.id == message.id), len(output))
        output[place : place + 1] = [message]

    def update_message(self, message: Message) -> None:
        if any(one.id == message.id for one in self.response.output or ()):
            self.add_message(message)

    def generate_streaming_response(
        self, text_tokens: list[str], role: str = Role.ASSISTANT
    ) -> Iterator[Event]:
        """Yields all events of a response with one text."""
        self.reset()
        yield self.created()
        yield self.in_progress()
        message = self.create_message_builder(role)
        yield message.get_message_data()
        content = message.create_content_builder()
        for token in text_tokens:
            yield content.add_delta(token)
        yield content.complete()
        yield message.complete()
        yield self.completed()


StreamingResponseBuilder = ResponseBuilder
