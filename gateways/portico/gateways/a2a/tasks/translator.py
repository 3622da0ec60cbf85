"""Converts a run's log to A2A: a task in its current state, and the updates that lead to it.

The result is a pure function of the request and the events, one by one: it depends neither on time nor on how
events are grouped into frames. Every gateway therefore gives the same answer, live or from the log. Output
for the caller becomes artifacts, one per message; reasoning and the agent's own calls become messages of the
status.
"""

from collections.abc import Iterable, Sequence
from typing import TypeAlias

from a2a.types import a2a_pb2 as a2a

from portico.gateways.a2a.tasks.media_types import PLAIN, Modes, media_type_of
from portico.gateways.a2a.tasks.message_parts import data_as_text, from_content, from_message, json_struct
from portico.gateways.a2a.tasks.task_status import (
    ENDED,
    WAITING,
    name_type,
    set_time,
    set_usage,
    set_used,
    set_words,
    state_of,
)
from portico.v1 import events_pb2 as pb
from portico.v1 import query_pb2

Update: TypeAlias = a2a.TaskStatusUpdateEvent | a2a.TaskArtifactUpdateEvent

# Types that are the result; all others are steps towards it.
_ARTIFACTS = frozenset(
    (
        pb.MESSAGE_TYPE_UNSPECIFIED,
        pb.MESSAGE_TYPE_MESSAGE,
        pb.MESSAGE_TYPE_FUNCTION_CALL,
        pb.MESSAGE_TYPE_ERROR,
        pb.MESSAGE_TYPE_A2UI_RESPONSE,
    )
)
_PLAIN = (pb.MESSAGE_TYPE_UNSPECIFIED, pb.MESSAGE_TYPE_MESSAGE)
_TEXTS = ("text", "refusal")


class _Artifact:
    """An artifact in its current state."""

    def __init__(self, message: pb.Message) -> None:
        self.head = _head(message)
        self.only_text = True
        self.texts: dict[int, list[str]] = {}  # contents that arrived in pieces
        self.parts: dict[int, a2a.Part] = {}

    def snapshot(self) -> a2a.Artifact:
        said = {index: a2a.Part(text="".join(pieces)) for index, pieces in self.texts.items()}
        said.update(self.parts)
        artifact = a2a.Artifact(parts=[said[index] for index in sorted(said)])
        artifact.MergeFrom(self.head)
        return artifact


class TaskTranslator:
    """Processes a log from its first event on. Call `forget` when only updates are needed from then on."""

    def __init__(self, request: query_pb2.AgentRequest) -> None:
        self._asked = request.input
        self._accepted = Modes(request.accepted_output_modes)
        self._omitted: set[str] = set()  # media types of parts that the caller does not accept
        self._task = a2a.Task()
        self._artifacts: dict[str, _Artifact] = {}
        self._told: list[str] = []  # artifacts of this attempt of which readers have received chunks
        self._aside: set[str] = set()  # messages that are not artifacts
        self._thoughts: set[str] = set()  # ids of this attempt's messages in the history, or about to be
        self._attempt = 1
        self._keeping = True
        self.asked_back = False  # whether the run has waited for input

    @property
    def task_id(self) -> str:
        return self._task.id

    @property
    def context_id(self) -> str:
        return self._task.context_id

    @property
    def state(self) -> a2a.TaskState:
        return self._task.status.state

    def forget(self) -> None:
        """Stops keeping the task's content: only updates are needed from now on."""
        self._keeping = False

    def task(self) -> a2a.Task:
        """Returns the task in its current state."""
        task = a2a.Task()
        task.CopyFrom(self._task)
        begun = (artifact for artifact in self._artifacts.values() if artifact.texts or artifact.parts)
        task.artifacts.extend(artifact.snapshot() for artifact in begun)
        return task

    def add_event(self, event: pb.Event, *, telling: bool = True) -> Sequence[Update]:
        """Processes the next event, and returns its updates, mostly one or none. The first event creates the
        task.

        Without `telling`, no updates are made for text deltas: they are most of the cost of reading a log for
        the task alone.
        """
        update: Update | None = None
        match event.WhichOneof("object"):
            case "content":
                update = self._content(event.content, telling)
            case "message":
                update = self._message(event.message)
            case "response":
                void = self._void(event.response)
                update = self._response(event.response, again=void is not None)
                if void and update is not None:
                    return (*void, update)
        return () if update is None else (update,)

    def _content(self, content: pb.Content, telling: bool) -> Update | None:
        artifact = self._artifacts.get(content.msg_id)
        if artifact is None:
            return None
        index = content.index
        begun = bool(artifact.texts or artifact.parts)
        if content.delta:
            piece = content.text or content.refusal
            if not self._accepted.has(content.media_type or PLAIN):
                self._omit(content.media_type or PLAIN)
                return None
            if not begun:
                self._told.append(content.msg_id)
            pieces = artifact.texts.setdefault(index, [])
            if self._keeping:
                pieces.append(piece)
            return self._chunk(artifact, a2a.Part(text=piece), append=begun) if telling else None
        if content.status == pb.RUN_STATUS_IN_PROGRESS or index in artifact.texts:
            return None  # an announcement, or a content that arrived in pieces
        artifact.only_text = artifact.only_text and content.WhichOneof("value") in _TEXTS
        part = self._part(content)
        if part is None:
            return None
        if not begun:
            self._told.append(content.msg_id)
        artifact.parts[index] = part
        return self._chunk(artifact, part, append=begun)

    def _part(self, content: pb.Content) -> a2a.Part | None:
        """Returns the part in a type that the caller accepts, data as text if necessary; None if there
        is none.
        """
        part = from_content(content)
        media_type = media_type_of(part)
        if self._accepted.has(media_type):
            return part
        if part.HasField("data") and self._accepted.has(PLAIN):
            return data_as_text(content)
        self._omit(media_type)
        return None

    def _omit(self, media_type: str) -> None:
        self._omitted.add(media_type.lower())

    def _chunk(
        self, artifact: _Artifact, *parts: a2a.Part, append: bool, last: bool = False
    ) -> a2a.TaskArtifactUpdateEvent:
        update = a2a.TaskArtifactUpdateEvent(
            task_id=self._task.id, context_id=self._task.context_id, append=append, last_chunk=last
        )
        if append:
            update.artifact.artifact_id = artifact.head.artifact_id
        else:
            update.artifact.CopyFrom(artifact.head)
        update.artifact.parts.extend(parts)
        return update

    def _message(self, message: pb.Message) -> Update | None:
        if message.type == pb.MESSAGE_TYPE_HEARTBEAT:
            return None
        if message.status == pb.RUN_STATUS_IN_PROGRESS:
            if message.type in _ARTIFACTS:
                self._artifacts[message.id] = _Artifact(message)
            else:
                self._aside.add(message.id)
            return None
        artifact = self._artifacts.get(message.id)
        if artifact is not None:
            return self._finished(artifact, message)
        if message.id in self._aside:
            self._aside.discard(message.id)
            return self._thought(message)
        return None

    def _finished(self, artifact: _Artifact, message: pb.Message) -> Update | None:
        if not (artifact.texts or artifact.parts):
            return None  # without content
        artifact.head = _head(message)
        only_text = artifact.only_text
        artifact.texts = {}
        parts = map(self._part, message.content or [pb.Content()])
        artifact.parts = {index: part for index, part in enumerate(parts) if part is not None}
        if only_text:
            # A chunk must have a part, and a text part may be empty.
            update = self._chunk(artifact, a2a.Part(text=""), append=True, last=True)
        else:
            update = self._chunk(artifact, *artifact.parts.values(), append=False, last=True)
        if not self._keeping:
            del self._artifacts[message.id]
        return update

    def _thought(self, message: pb.Message) -> Update:
        told = from_message(message, self._task.id, self._task.context_id)
        told.role = a2a.ROLE_AGENT
        name_type(told.metadata, message.type)
        self._to_history()
        if self._keeping:
            self._thoughts.add(told.message_id)
        self._task.status.message.CopyFrom(told)
        return self._status_update()

    def _to_history(self, told: Iterable[pb.Message] = ()) -> None:
        """Moves the status message to the history before the status changes."""
        task = self._task
        if not self._keeping:
            task.status.ClearField("message")
            return
        if task.status.HasField("message"):
            task.history.append(task.status.message)
            task.status.ClearField("message")
        task.history.extend(from_message(message, task.id, task.context_id) for message in told)

    def _status_update(self) -> a2a.TaskStatusUpdateEvent:
        task = self._task
        return a2a.TaskStatusUpdateEvent(task_id=task.id, context_id=task.context_id, status=task.status)

    def _void(self, response: pb.Response) -> Sequence[Update] | None:
        """If another attempt begins, returns the updates that discard the output so far in a reader's task.

        A sent artifact can't be removed; a chunk that is not appended replaces all its parts, and must have
        one part.
        """
        if response.attempt <= self._attempt:
            return None
        task = self._task
        void = []
        for artifact_id in self._told:
            update = a2a.TaskArtifactUpdateEvent(task_id=task.id, context_id=task.context_id, last_chunk=True)
            update.artifact.artifact_id = artifact_id
            update.artifact.parts.add().text = ""
            update.artifact.metadata["void"] = True
            void.append(update)
        kept = [message for message in task.history if message.message_id not in self._thoughts]
        del task.history[:]
        task.history.extend(kept)
        if task.status.message.message_id in self._thoughts:
            task.status.ClearField("message")
        self._told.clear()
        self._thoughts.clear()
        self._artifacts.clear()
        self._aside.clear()
        self._attempt = response.attempt
        return void

    def _response(self, response: pb.Response, *, again: bool) -> Update | None:
        task = self._task
        first = not task.id
        if first:
            task.id = response.id
            task.context_id = response.session_id
            metadata = json_struct(response.metadata_json)
            if metadata is not None:
                task.metadata.CopyFrom(metadata)
            self._to_history(self._asked)
        before, state = task.status.state, state_of(response)
        self._to_history(response.input)
        task.status.state = state
        if state in WAITING:
            self.asked_back = True
        set_time(response, task.status)
        set_words(response, task)
        if first or (state == before and not again and not response.input):
            return None
        update = self._status_update()
        if again:
            update.metadata["attempt"] = response.attempt
        if response.HasField("usage") and state in ENDED:
            set_usage(response.usage, update.metadata)
            set_usage(response.usage, task.metadata)
        if response.HasField("used") and state in ENDED:
            set_used(response.used, update.metadata)
            set_used(response.used, task.metadata)
        if self._omitted and state in ENDED:
            for metadata in (update.metadata, task.metadata):
                metadata.get_or_create_list("omittedModes").extend(sorted(self._omitted))
        canceled = json_struct(response.cancel_metadata_json)
        if canceled is not None:
            for metadata in (update.metadata, task.metadata):
                metadata.get_or_create_struct("cancel").CopyFrom(canceled)
        return update


def direct_answer(task: a2a.Task) -> a2a.Message:
    """Returns all output of a task as one message."""
    said = [part for artifact in task.artifacts for part in artifact.parts]
    return a2a.Message(
        message_id=task.artifacts[-1].artifact_id if task.artifacts else f"{task.id}_message",
        context_id=task.context_id,
        role=a2a.ROLE_AGENT,
        parts=said or [a2a.Part(text="")],
        metadata=task.metadata if task.metadata.fields else None,
    )


def _head(message: pb.Message) -> a2a.Artifact:
    head = a2a.Artifact(
        artifact_id=message.id, metadata=json_struct(message.metadata_json), extensions=message.extensions
    )
    if message.type not in _PLAIN:
        name_type(head.metadata, message.type)
    return head
