"""The open message of an agent's output, and the usage that messages add up to."""

from collections.abc import Mapping

import orjson

from portico.core.log.encoding import FinishedContent, FinishedMessage
from portico.model.messages import DataContent, Message, MessageType, Role, Status, Usage

_CALL_BEGUN = {"arguments": ""}
_OUTPUT_BEGUN = {"output": ""}
# Members of a call's or a result's data in its announcement.
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
    """A tool call whose arguments are incomplete."""

    __slots__ = ("data", "length", "parts", "told")

    def __init__(self, data: Mapping[str, object]) -> None:
        self.data = data
        self.parts: list[str] = []
        self.length = 0
        self.told = 0

    def add(self, arguments: str) -> bool:
        """Add arguments; returns whether readers are to get an update.

        Each update repeats the arguments from their beginning, as readers of the protocol expect. An update
        is due when they have grown by an eighth, so that the size of all updates is proportional to theirs.
        """
        self.parts.append(arguments)
        self.length += len(arguments)
        if self.length - self.told <= self.told >> 3:
            return False
        self.told = self.length
        return True

    def content(self) -> DataContent:
        """The call with its arguments so far."""
        return DataContent({**self.data, "arguments": "".join(self.parts)})


class OpenMessage:
    """The complete contents of an unfinished message, and its open text or call."""

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

    def has_content(self, content: DataContent) -> DataContent:
        """The data content as it is announced."""
        return DataContent({**content.data, **_BEGUN[self.type]}) if self.type in _BEGUN else content

    def finished(self, status: Status, sequence_number: int) -> FinishedMessage:
        """Make the finished message."""
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


def validate_usage(usage: Usage) -> Usage:
    """Return the usage with whole, non-negative numbers. Raises TypeError if its details are not JSON."""
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


def add_usage(before: Usage | None, usage: Usage) -> Usage:
    """The sum of two usages."""
    return usage if before is None else before + usage
