"""Media types: compares those that an agent reads and writes with those of its caller."""

from collections.abc import Iterable

from a2a.types import a2a_pb2 as a2a
from a2a.utils.errors import ContentTypeNotSupportedError

from portico.v1 import agent_pb2

_ANY = "*/*"
JSON = "application/json"
PLAIN = "text/plain"
# Words from early A2A drafts that clients still send; any other word is a family, such as image.
_WORDS = {"*": _ANY, "file": _ANY, "data": JSON, "json": JSON}


class Modes:
    """A set of media types, in which image/* means all images. An empty set means all types."""

    def __init__(self, modes: Iterable[str]) -> None:
        self._types = frozenset(map(_read, modes))
        self._any = not self._types or _ANY in self._types

    def __str__(self) -> str:
        return ", ".join(sorted(self._types))

    def has(self, media_type: str) -> bool:
        """Returns whether the set contains a media type; an unknown (empty) type counts as contained."""
        if self._any:
            return True
        read = _read(media_type)
        return not read or read in self._types or f"{read.partition('/')[0]}/*" in self._types

    def meets(self, other: "Modes") -> bool:
        """Returns whether the sets have a common type."""
        return (
            self._any
            or other._any
            or any(other.has(mode) for mode in self._types)
            or any(self.has(mode) for mode in other._types)
        )


def media_type_of(part: a2a.Part) -> str:
    """Returns a part's media type; empty for bytes and URLs without one."""
    if part.media_type:
        return part.media_type
    match part.WhichOneof("content"):
        case "text":
            return PLAIN
        case "data":
            return JSON
    return ""


def check_modes(params: a2a.SendMessageRequest, agent: agent_pb2.Agent) -> None:
    """Raises ContentTypeNotSupportedError for a part that the agent does not read, or, when the message
    begins a task, if the caller accepts none of the types that the agent writes.
    """
    reads = Modes(agent.input_modes)
    for part in params.message.parts:
        media_type = media_type_of(part)
        if not reads.has(media_type):
            raise _unsupported(f"The agent does not read {media_type}; it reads {reads}", media_type)
    accepted = params.configuration.accepted_output_modes
    writes = Modes(agent.output_modes)
    if accepted and not params.message.task_id and not writes.meets(Modes(accepted)):
        wanted = ", ".join(accepted)
        raise _unsupported(f"The agent does not write {wanted}; it writes {writes}", wanted)


def _unsupported(message: str, media_type: str) -> ContentTypeNotSupportedError:
    return ContentTypeNotSupportedError(message=message, data={"mediaType": media_type})


def _read(mode: str) -> str:
    """Normalises a media type: lower case, without parameters."""
    plain = mode.partition(";")[0].strip().lower()
    if not plain or "/" in plain:
        return plain
    return _WORDS.get(plain, f"{plain}/*")
