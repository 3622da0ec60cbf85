"""Encodes events as frames of one event each, encodes records of runs, and decodes both for recovery."""

from collections.abc import Sequence

from portico.agent.child_runs import ChildRequest
from portico.core.budgets import BudgetUse
from portico.core.convert.budgets import budget_from_proto, budget_to_proto, use_from_proto, use_to_proto
from portico.core.convert.enums import ROLE_TO_PROTO, STATUS_TO_PROTO, TYPE_TO_PROTO
from portico.core.convert.messages import (
    STORED_CHARACTERS,
    content_from_proto,
    error_to_proto,
    message_from_proto,
    message_to_proto,
    set_content,
    set_message,
    usage_from_proto,
    usage_to_proto,
)
from portico.core.convert.requests import child_request, load_request
from portico.core.convert.timestamps import set_timestamp
from portico.core.log.encoding import (
    DeltaEncoder,
    FinishedContent,
    FinishedMessage,
    PendingInput,
    Recovered,
    RunRequest,
    RunSnapshot,
)
from portico.core.stores.ports.stores import Chunk
from portico.model.messages import Budget, Content, Message, MessageType, Role, Status, TextContent
from portico.v1 import events_pb2, query_pb2

_IN_PROGRESS = events_pb2.RUN_STATUS_IN_PROGRESS
_KINDS = {
    "input": events_pb2.INPUT_KIND_INPUT,
    "authorization": events_pb2.INPUT_KIND_AUTHORIZATION,
}
_KIND_NAMES = {value: name for name, value in _KINDS.items()}


class ProtoEncoder:
    """EventEncoder that produces the contract's messages. Stateless."""

    def response(
        self, sequence_number: int, snapshot: RunSnapshot, output: Sequence[FinishedMessage]
    ) -> bytes:
        frame = query_pb2.QueryResponse()
        event = frame.events.add(sequence_number=sequence_number)
        _set_response(event.response, snapshot)
        for finished in output:
            set_finished(event.response.output.add(), finished)
        return frame.SerializeToString()

    def message_opened(
        self, sequence_number: int, message_id: str, type: MessageType, role: Role, metadata_json: str
    ) -> bytes:
        frame = query_pb2.QueryResponse()
        message = frame.events.add(sequence_number=sequence_number).message
        message.id = message_id
        message.type = TYPE_TO_PROTO[type]
        message.status = _IN_PROGRESS
        message.role = ROLE_TO_PROTO[role]
        message.metadata_json = metadata_json
        return frame.SerializeToString()

    def deltas(self, message_id: str, index: int, *, refusal: bool) -> DeltaEncoder:
        # One message is reused for all deltas: setting two fields and serialising is the cheapest way in
        # Python (0.5 us).
        frame = query_pb2.QueryResponse()
        event = frame.events.add()
        content = event.content
        content.type = events_pb2.CONTENT_TYPE_REFUSAL if refusal else events_pb2.CONTENT_TYPE_TEXT
        content.status = _IN_PROGRESS
        content.index = index
        content.delta = True
        content.msg_id = message_id
        serialize = frame.SerializeToString

        def encode(sequence_number: int, text: str) -> bytes:
            event.sequence_number = sequence_number
            content.text = text
            return serialize()

        def encode_refusal(sequence_number: int, text: str) -> bytes:
            event.sequence_number = sequence_number
            content.refusal = text
            return serialize()

        return encode_refusal if refusal else encode

    def content(
        self, sequence_number: int, message_id: str, index: int, content: Content, status: Status
    ) -> bytes:
        frame = query_pb2.QueryResponse()
        target = frame.events.add(sequence_number=sequence_number).content
        target.status = STATUS_TO_PROTO[status]
        target.index = index
        target.msg_id = message_id
        set_content(target, content)
        return frame.SerializeToString()

    def message(self, sequence_number: int, finished: FinishedMessage) -> bytes:
        frame = query_pb2.QueryResponse()
        set_finished(frame.events.add(sequence_number=sequence_number).message, finished)
        return frame.SerializeToString()

    def summary(self, snapshot: RunSnapshot) -> bytes:
        response = events_pb2.Response()
        _set_response(response, snapshot)
        return response.SerializeToString()

    def check_message(self, message: Message, field: str) -> None:
        message_from_proto(message_to_proto(message), field, new=True)

    def stored_message(self, message: Message) -> bytes:
        return message_to_proto(message).SerializeToString()

    def load_message(self, payload: bytes) -> Message:
        return message_from_proto(events_pb2.Message.FromString(payload))

    def load_request(self, payload: bytes, owner: str) -> RunRequest:
        return load_request(payload, owner)

    def load_pending_input(self, summary: bytes) -> tuple[PendingInput | None, int]:
        response = events_pb2.Response.FromString(summary)
        if not response.HasField("input_request"):
            return None, response.repeated_answers
        asked = response.input_request
        kind = _KIND_NAMES.get(asked.kind, "input")
        return PendingInput(asked.id, asked.prompt, asked.schema_json, kind), response.repeated_answers

    def load_parent(self, summary: bytes) -> str:
        return events_pb2.Response.FromString(summary).parent_run_id

    def load_budget(self, summary: bytes) -> tuple[Budget, BudgetUse] | None:
        response = events_pb2.Response.FromString(summary)
        if not response.HasField("budget"):
            return None
        return budget_from_proto(response.budget), use_from_proto(response.used)

    def child_request(self, request: ChildRequest, parent_run_id: str, parent: RunRequest) -> RunRequest:
        return child_request(request, parent_run_id, parent)

    def answers(self, answers: Sequence[Sequence[Message]], steered: Sequence[Message] = ()) -> bytes:
        # One frame per question, with the answer as the output of a response; then one with the input of
        # SteerRun, as the input of a response.
        frames = query_pb2.MultiplexResponse()
        for answer in answers:
            event = frames.frames.add().events.add()
            event.response.output.extend(message_to_proto(message) for message in answer)
        if steered:
            event = frames.frames.add().events.add()
            event.response.input.extend(message_to_proto(message) for message in steered)
        return frames.SerializeToString()

    def load_answers(self, payload: bytes) -> Sequence[Sequence[Message]]:
        frames = query_pb2.MultiplexResponse.FromString(payload)
        return [
            [message_from_proto(message) for message in frame.events[0].response.output]
            for frame in frames.frames
            if not frame.events[0].response.input
        ]

    def load_steered(self, payload: bytes) -> Sequence[Message]:
        frames = query_pb2.MultiplexResponse.FromString(payload)
        return [
            message_from_proto(message)
            for frame in frames.frames
            for message in frame.events[0].response.input
        ]

    def recover(self, chunks: Sequence[Chunk]) -> Recovered:
        finished: list[FinishedMessage] = []
        opened: events_pb2.Message | None = None
        parts: dict[int, Content] = {}
        usage = None
        attempt, repeated, remembered = 1, 0, 0
        for chunk in chunks:
            for event in query_pb2.QueryResponse.FromString(chunk.data).events:
                kind = event.WhichOneof("object")
                if kind == "response":
                    response = event.response
                    if response.attempt > attempt:
                        attempt = response.attempt  # a new attempt replaces all earlier output
                        finished, opened, parts, usage, repeated, remembered = [], None, {}, None, 0, 0
                    asks = response.status == events_pb2.RUN_STATUS_INPUT_REQUIRED
                    if asks or response.input or response.repeated_answers > repeated:
                        repeated, remembered = response.repeated_answers, len(finished)
                elif kind == "message" and event.message.status == _IN_PROGRESS:
                    opened, parts = event.message, {}
                elif kind == "message":
                    finished.append(_finished_from_proto(event))
                    opened = None
                    if event.message.HasField("usage"):
                        more = usage_from_proto(event.message.usage)
                        usage = more if usage is None else usage + more
                elif kind == "content":
                    _merge(parts, event.content)
        contents = [parts[index] for index in sorted(parts)] if opened is not None else []
        message = message_from_proto(opened) if opened is not None else None
        return Recovered(finished, remembered, message, contents, usage)


def _set_response(target: events_pb2.Response, snapshot: RunSnapshot) -> None:
    target.id = snapshot.run_id
    target.status = STATUS_TO_PROTO[snapshot.status]
    if snapshot.error is not None:
        error_to_proto(snapshot.error, target.error)
    set_timestamp(target.created_time, snapshot.created_at)
    if snapshot.completed_at is not None:
        set_timestamp(target.completed_time, snapshot.completed_at)
    if snapshot.usage is not None:
        usage_to_proto(snapshot.usage, target.usage)
    target.session_id = snapshot.session_id
    target.user_id = snapshot.user_id
    target.agent_name = snapshot.agent_name
    target.attempt = snapshot.attempt
    if snapshot.pending_input is not None:
        target.input_request.id = snapshot.pending_input.id
        target.input_request.prompt = snapshot.pending_input.prompt
        target.input_request.schema_json = snapshot.pending_input.schema_json
        target.input_request.kind = _KINDS[snapshot.pending_input.kind]
    target.metadata_json = snapshot.metadata_json
    target.cancel_metadata_json = snapshot.cancel_metadata_json
    set_timestamp(target.status_time, snapshot.status_at)
    target.repeated_answers = snapshot.repeated_answers
    if snapshot.budget is not None and snapshot.used is not None:
        budget_to_proto(snapshot.budget, target.budget)
        use_to_proto(snapshot.used, target.used)
    if snapshot.parent_run_id:
        target.parent_run_id = snapshot.parent_run_id
    target.input.extend(message_to_proto(message) for message in snapshot.input)


def set_finished(target: events_pb2.Message, finished: FinishedMessage) -> None:
    """Fills an empty message with a finished message of a run's output."""
    message = finished.message
    set_message(target, message)
    if finished.sequence_number is not None:
        target.sequence_number = finished.sequence_number
    for index, part in enumerate(finished.contents):
        content = target.content.add(index=index, msg_id=message.id, status=target.status)
        if part.sequence_number is not None:
            content.sequence_number = part.sequence_number
        set_content(content, part.content)


def _finished_from_proto(event: events_pb2.Event) -> FinishedMessage:
    message = event.message
    contents = [
        FinishedContent(
            content_from_proto(part, characters=STORED_CHARACTERS),
            part.sequence_number if part.HasField("sequence_number") else None,
        )
        for part in message.content
    ]
    return FinishedMessage(message_from_proto(message), contents, event.sequence_number)


def _merge(parts: dict[int, Content], content: events_pb2.Content) -> None:
    """Adds a content to the parts: a delta appends to the existing text, anything else replaces it."""
    arrived = content_from_proto(content, characters=STORED_CHARACTERS)
    before = parts.get(content.index)
    if content.delta and isinstance(before, TextContent) and isinstance(arrived, TextContent):
        arrived = TextContent(before.text + arrived.text)
    parts[content.index] = arrived
