"""Bodies of push notifications: single updates for 1.0, the whole task for 0.3."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import orjson
from a2a.compat.v0_3.conversions import to_compat_task
from a2a.types import a2a_pb2 as a2a
from a2a.utils.constants import A2A_JSON_MEDIA_TYPE, PROTOCOL_VERSION_0_3
from a2a.utils.proto_utils import to_stream_response
from google.protobuf.json_format import MessageToDict

from portico.gateways.a2a.tasks.translator import Update

Told: TypeAlias = a2a.Task | Update
OLD = f"a2a/{PROTOCOL_VERSION_0_3}"  # value of a config's `protocol`; an empty one means 1.0


@dataclass(frozen=True, slots=True)
class Payload:
    """The body of one POST."""

    body: bytes
    media_type: str


def payloads(protocol: str, told: Sequence[Told], task: Callable[[], a2a.Task]) -> Iterable[Payload]:
    """Returns the bodies for updates that arrived together; `task` returns the task after them.

    A slow receiver gets fewer, larger chunks. A receiver of 0.3 gets the task when its status has changed or
    an artifact is complete, once for several such changes.
    """
    if protocol == OLD:
        if any(map(_matters, told)):
            body = to_compat_task(task()).model_dump_json(by_alias=True, exclude_none=True)
            yield Payload(body.encode(), "application/json")
        return
    for item in _gathered(told):
        yield Payload(orjson.dumps(MessageToDict(to_stream_response(item))), A2A_JSON_MEDIA_TYPE)


def _matters(item: Told) -> bool:
    return not isinstance(item, a2a.TaskArtifactUpdateEvent) or item.last_chunk


def _gathered(told: Sequence[Told]) -> list[Told]:
    """Joins consecutive chunks of one text: late receivers need not get them one by one."""
    gathered: list[Told] = []
    for item in told:
        before = gathered[-1] if gathered else None
        if (
            isinstance(item, a2a.TaskArtifactUpdateEvent)
            and isinstance(before, a2a.TaskArtifactUpdateEvent)
            and item.append
            and not before.last_chunk
            and item.artifact.artifact_id == before.artifact.artifact_id
        ):
            for part in item.artifact.parts:
                last = before.artifact.parts[-1]
                if part.HasField("text") and last.HasField("text") and not _told_apart(last):
                    last.text += part.text
                else:
                    before.artifact.parts.append(part)
            before.last_chunk = item.last_chunk
        else:
            gathered.append(item)
    return gathered


def _told_apart(part: a2a.Part) -> bool:
    return bool(part.media_type or part.filename or part.metadata.fields)
