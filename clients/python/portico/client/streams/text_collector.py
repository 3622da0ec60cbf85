"""Assembles the text of a run's messages from its events."""

from portico.client.streams.read_position import ReadPosition, position_after
from portico.v1 import events_pb2

_SAID = (events_pb2.MESSAGE_TYPE_UNSPECIFIED, events_pb2.MESSAGE_TYPE_MESSAGE)


class TextCollector:
    """Accepts events in order; holds the text of the messages so far, without reasoning and tool calls."""

    def __init__(self) -> None:
        self._attempt = 1
        # By message id, then by content index.
        self._texts: dict[str, dict[int, str]] = {}
        self._silent: set[str] = set()

    @property
    def text(self) -> str:
        """The text; messages are separated by a line break."""
        said = ("".join(text for _, text in sorted(parts.items())) for parts in self._texts.values())
        return "\n".join(text for text in said if text)

    def take_in(self, event: events_pb2.Event) -> None:
        """Adds the content of one event."""
        match event.WhichOneof("object"):
            case "content":
                self._on_content(event.content)
            case "message":
                self._on_message(event.message)
            case "response":
                self._on_response(event)

    def _on_response(self, event: events_pb2.Event) -> None:
        if event.response.attempt > self._attempt:
            self._attempt = event.response.attempt
            # A new attempt executes from the start and voids earlier text. An attempt that is first seen at
            # its end or at a pause began before the reader's cursor.
            if position_after(event) is ReadPosition.WITHIN:
                self._texts.clear()

    def _on_content(self, content: events_pb2.Content) -> None:
        if content.msg_id in self._silent or content.WhichOneof("value") != "text":
            return
        parts = self._texts.setdefault(content.msg_id, {})
        before = parts.get(content.index, "") if content.delta else ""
        parts[content.index] = before + content.text

    def _on_message(self, message: events_pb2.Message) -> None:
        if message.type not in _SAID:
            self._silent.add(message.id)
            self._texts.pop(message.id, None)
        elif message.content:
            self._texts[message.id] = {
                index: content.text
                for index, content in enumerate(message.content)
                if content.WhichOneof("value") == "text"
            }
