"""The message that an agent is in the midst of, and what it adds up to."""

from collections.abc import Mapping

import orjson

from portico.core.log.encoding import FinishedContent, FinishedMessage
from portico.model.messages import DataContent, Message, MessageType, Role, Status, Usage

_CALL_BEGUN = {"arguments": ""}
_OUTPUT_BEGUN = {"output": ""}
# How the data of a call or a result looks when it is announced.
_BEGUN: Mapping[MessageType, dict[str, str]] = {
    MessageType.FUNCTION_CALL: _CALL_BEGUN,
    MessageType.PLUGIN_CALL: _CALL_BEGUN,
    MessageType.COMPONENT_CALL: _CALL_BEGUN,
    MessageType.MCP_CALL: _CALL_BEGUN,
    MessageType.FUNCTION_CALL_OUTPUT: _OUTPUT_BEGUN,
    MessageType.PLUGIN_CALL_OUTPUT: _OUTPUT_BEGUN,
    MessageType.COMPONENT_CALL_OUTPUT: _OUTPUT_BEGUN,
    MessageType.MCP_CALL_OUTPUT: _OUTPUT_BEGUN,
}


class OpenCall:
    """A tool call whose arguments are still coming."""

    __slots__ = ("data", "length", "parts", "told")

    def __init__(self, data: Mapping[str, object]) -> None:
        self.data = data
        self.parts: list[str] = []
        self.length = 0
        self.told = 0

    def add(self, arguments: str) -> bool:
        """Whether it is time to tell how far they are.

        Each telling repeats them from their beginning, as readers of the protocol expect. They are told
        whenever they have grown by an eighth, so that all tellings together stay in proportion to them.
        """
        self.parts.append(arguments)
        self.length += len(arguments)
        if self.length - self.told <= self.told >> 3:
            return False
        self.told = self.length
        return True

    def content(self) -> DataContent:
        return DataContent({**self.data, "arguments": "".join(self.parts)})


class OpenMessage:
    """What of a message is complete, and the text or the call that is open in it."""

    __slots__ = ("call", "contents", "id", "index", "metadata", "parts", "role", "type", "usage")

    def __init__(self, id: str, type: MessageType, role: Role) -> None:
        self.id = id
        self.type = type
        self.role = role
        self.contents: list[FinishedContent] = []
        self.index = 0
        self.parts: list[str] | None = None
        self.call: OpenCall | None = None
        self.usage: Usage | None = None
        self.metadata: Mapping[str, object] = {}

    def begun(self, content: DataContent) -> DataContent:
        """A data content as it is announced."""
        return DataContent({**content.data, **_BEGUN[self.type]}) if self.type in _BEGUN else content

    def finished(self, status: Status, sequence_number: int) -> FinishedMessage:
        """The message once nothing more comes."""
        return FinishedMessage(
            Message(
                self.role,
                tuple(content.content for content in self.contents),
                self.type,
                self.id,
                status,
                self.metadata,
                self.usage,
            ),
            tuple(self.contents),
            sequence_number,
        )


def counted(usage: Usage) -> Usage:
    """Whole, non-negative numbers, whatever a provider said. Raises for details that are not JSON."""
    orjson.dumps(usage.details)
    numbers = (
        usage.input_tokens,
        usage.output_tokens,
        usage.total_tokens,
        usage.cached_input_tokens,
        usage.reasoning_output_tokens,
    )
    heard, said, total, cached, reasoned = (min(max(int(n or 0), 0), 2**53) for n in numbers)
    return Usage(heard, said, total, cached, reasoned, usage.details)


def added(before: Usage | None, usage: Usage) -> Usage:
    return usage if before is None else before + usage
