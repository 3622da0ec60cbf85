"""Emitter: turns the items that an agent yields into the events of its run.

The grammar is the agent protocol's: a message is opened, its contents arrive as deltas and are completed, the
message is completed; the response event that ends the run carries all messages. There is one emitter per run;
the run's host calls it from the event loop only.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence

import orjson

from portico.agent.builders import CallDelta, Delta, NewMessage
from portico.agent.context import AgentError
from portico.agent.dict_items import from_dict
from portico.core.budgets import BudgetLimit
from portico.core.execution.open_message import OpenCall, OpenMessage, add_usage, validate_usage
from portico.core.execution.run_spans import RunSpans
from portico.core.hosts.base.agent_errors import unsupported_item_error
from portico.core.log.encoding import (
    DeltaEncoder,
    EventEncoder,
    FinishedContent,
    FinishedMessage,
    PendingInput,
    Recovered,
)
from portico.core.log.live_run import LiveRun
from portico.core.log.session_messages import to_session_message
from portico.model.ids import new_id
from portico.model.messages import (
    CONTENT_TYPES,
    Content,
    DataContent,
    Error,
    Message,
    MessageType,
    Role,
    Status,
    TextContent,
    Usage,
)

# Limit per run. Output emitted at once is in one frame with the three events that repeat it, so four times
# this limit must be less than the largest gRPC message.
MAX_OUTPUT_BYTES = 3 * 1024 * 1024
PART_OVERHEAD_BYTES = 200  # counted for each message or content in addition to its text
ERROR_CHARACTERS = 8192
DELTA_CHARACTERS = 64 * 1024  # a longer text is split into several deltas
_CALLS = frozenset(
    (
        MessageType.FUNCTION_CALL,
        MessageType.PLUGIN_CALL,
        MessageType.COMPONENT_CALL,
        MessageType.MCP_CALL,
    )
)


class Emitter:
    """Appends a run's events to its log."""

    def __init__(self, run: LiveRun, encoder: EventEncoder) -> None:
        self._run = run
        self._encoder = encoder
        self._open: OpenMessage | None = None
        self._delta: DeltaEncoder | None = None
        self._delta_type: MessageType | None = None
        self._size = 0
        self.output: list[FinishedMessage] = []
        self._remembered = 0  # number of output messages that the session has
        self.spans: RunSpans | None = None  # set while the run is traced

    @property
    def needs_drain(self) -> bool:
        """Whether the agent is too far ahead of the log and must wait for `drain`."""
        return self._run.needs_drain

    async def drain(self) -> None:
        """Return when all events emitted so far are durable."""
        await self._run.wait_published(self._run.next_sequence_number - 1)

    def created(self) -> None:
        """Emit created, the first event of the run."""
        self._respond(Status.CREATED)

    def queued(self) -> None:
        """Emit queued: the run waits for its session or for the scheduler."""
        self._respond(Status.QUEUED)

    def started(self) -> None:
        """Emit in_progress; add the request's messages to the session."""
        self._respond(Status.IN_PROGRESS)
        for message in self._run.start.request.input:
            self._remember(message)

    def deliver_received_input(self, *, remembered: bool) -> None:
        """Complete the open message before a question, and add the output to the session before the answer.

        Args:
            remembered: The session has the output already, from an earlier attempt.
        """
        self._close(Status.COMPLETED)
        if remembered:
            self._remembered = len(self.output)
        else:
            self._remember_output()

    def paused(self, ask: PendingInput, *, remembered: bool) -> None:
        """Emit input_required; add the question to the session before the answer."""
        self._run.ask = ask
        if not remembered:
            # Protocols that show the question as a message use the same id.
            id = f"msg_{ask.id.removeprefix('input_')}"
            self._remember(Message(Role.ASSISTANT, (TextContent(ask.prompt),), id=id))
        self._respond(Status.INPUT_REQUIRED)

    def resumed(self, answer: Sequence[Message]) -> None:
        """Emit in_progress with the answer, and add the answer to the session."""
        self._run.ask = None
        self._told(answer)

    def input_withdrawn(self) -> None:
        """Emit in_progress: the agent no longer waits for the answer."""
        self._run.ask = None
        self._respond(Status.IN_PROGRESS)

    def repeated(self) -> None:
        """Emit in_progress: the agent gets an answer that an earlier attempt got."""
        self._run.repeated_answers += 1
        self._respond(Status.IN_PROGRESS)

    def steered(self, told: Sequence[Message]) -> None:
        """Complete the open message, then record the steering messages that the agent reads now."""
        self._close(Status.COMPLETED)
        self._remember_output()
        self._told(told)

    def finish(self, status: Status, error: Error | None = None) -> Sequence[FinishedMessage]:
        """Write the terminal event; an open message is kept as far as it came.

        Returns:
            The finished messages of the run.
        """
        run = self._run
        self._close(Status.COMPLETED if status is Status.COMPLETED else Status.INCOMPLETE)
        run.error = (
            None if error is None else Error(_safe_error_text(error.code), _safe_error_text(error.message))
        )
        run.ask = None
        run.completed_at = time.time()
        self._remember_output()
        self._respond(status)
        return self.output

    def discard(self) -> None:
        """Drop the output and the usage: one of them cannot be encoded."""
        self._open = None
        self._delta = None
        self._run.usage = None
        self.output = []
        self._remembered = 0

    def recover(self, recovered: Recovered) -> None:
        """Continue from the recorded output of an earlier process."""
        self.output = list(recovered.finished)
        self._remembered = recovered.remembered
        self._run.usage = recovered.usage
        if recovered.open_message is not None:
            message = recovered.open_message
            self._open = OpenMessage(message.id, message.type, message.role)
            self._open.contents = [FinishedContent(content, None) for content in recovered.open_contents]

    def emit(self, item: object) -> None:
        """Append the events of one yielded item.

        Raises:
            TypeError: The item is of a type that an agent cannot yield.
            AgentError: The output of the run is too large.
            asyncio.CancelledError: The item exceeds the run's budget.
        """
        if type(item) is str:
            self._text(item, MessageType.MESSAGE)
        elif isinstance(item, Delta):
            self._text(item.text, item.type)
        elif isinstance(item, CallDelta):
            self._call(item)
        elif isinstance(item, Message):
            self._message(item)
        elif isinstance(item, CONTENT_TYPES):
            self._content(item)
        elif isinstance(item, Usage):
            self._usage(item)
        elif isinstance(item, NewMessage):
            self._close(Status.COMPLETED)
        elif isinstance(item, Mapping):
            self.emit(from_dict(item))
        elif isinstance(item, str):
            self._text(str(item), MessageType.MESSAGE)
        elif item is not None:
            raise unsupported_item_error(item)

    def _text(self, text: str, type: MessageType) -> None:
        if not text:
            return
        if len(text) > DELTA_CHARACTERS:
            for start in range(0, len(text), DELTA_CHARACTERS):
                self._text(text[start : start + DELTA_CHARACTERS], type)
            return
        self._grow(len(text) if text.isascii() else len(text.encode()))
        if self._delta is None or self._delta_type is not type:
            self._open_text(type)
        assert self._delta is not None
        assert self._open is not None
        assert self._open.parts is not None
        run = self._run
        run.append(self._delta(run.next_sequence_number, text))
        self._open.parts.append(text)

    def _grow(self, size: int) -> None:
        self._size += size
        if self._size > MAX_OUTPUT_BYTES:
            raise AgentError(
                f"the run's output exceeds {MAX_OUTPUT_BYTES} bytes; pass large content as URLs",
                code="output_too_large",
            )

    def _open_text(self, type: MessageType) -> None:
        message = self._opened(type, Role.ASSISTANT)
        message.parts = []
        self._delta = self._encoder.deltas(message.id, message.index, refusal=False)
        self._delta_type = type

    def _opened(
        self, type: MessageType, role: Role, id: str = "", metadata: Mapping[str, object] | None = None
    ) -> OpenMessage:
        """Return the open message if the next content belongs to it; else open a new message."""
        message = self._open
        if (
            message is not None
            and message.call is None
            and message.type is type
            and message.role is role
            and not id
        ):
            return message
        self._close(Status.COMPLETED)
        run = self._run
        # Checked before the agent goes on to make the call.
        if (
            run.budget_tracker is not None
            and type in _CALLS
            and not run.budget_tracker.try_count(BudgetLimit.TOOL_CALLS)
        ):
            raise asyncio.CancelledError
        message = OpenMessage(id or new_id("msg_"), type, role)
        message.metadata = metadata or {}
        text = orjson.dumps(metadata).decode() if metadata else ""
        self._grow(len(text) + PART_OVERHEAD_BYTES)
        run.append(self._encoder.message_opened(run.next_sequence_number, message.id, type, role, text))
        self._open = message
        return message

    def _call(self, item: CallDelta) -> None:
        self._grow(len(item.arguments.encode()))
        message = self._open
        call = message.call if message is not None and message.type is item.type else None
        if call is None or call.data["call_id"] != item.call_id:
            self._close(Status.COMPLETED)
            message = self._opened(item.type, Role.ASSISTANT)
            data = {"call_id": item.call_id, "name": item.name, "arguments": "", **item.more}
            call = message.call = OpenCall(data)
            self._tell_call(message, call)
        assert message is not None
        if item.arguments and call.add(item.arguments):
            self._tell_call(message, call)

    def _tell_call(self, message: OpenMessage, call: OpenCall) -> None:
        run = self._run
        content = call.content()
        number = run.next_sequence_number
        run.append(self._encoder.content(number, message.id, message.index, content, Status.IN_PROGRESS))

    def _close_text(self, status: Status) -> None:
        message = self._open
        self._delta = None
        if message is None:
            return
        if message.call is not None:
            whole_call, message.call = message.call.content(), None
            self._complete_content(message, whole_call, status)
        if message.parts is None:
            return
        whole = TextContent("".join(message.parts))
        message.parts = None
        self._complete_content(message, whole, status)

    def _complete_content(self, message: OpenMessage, content: Content, status: Status) -> None:
        run = self._run
        event = self._encoder.content(run.next_sequence_number, message.id, message.index, content, status)
        if not isinstance(content, TextContent):
            self._grow(len(event))
        message.contents.append(FinishedContent(content, run.append(event)))
        message.index += 1

    def _whole_content(self, message: OpenMessage, content: Content) -> None:
        """Append a content that arrives whole; it is announced first, as readers of the protocol expect."""
        run = self._run
        number = run.next_sequence_number
        self._grow(PART_OVERHEAD_BYTES)
        if isinstance(content, TextContent):
            self._grow(len(content.text.encode()))
            run.append(self._encoder.deltas(message.id, message.index, refusal=False)(number, content.text))
        elif isinstance(content, DataContent):
            if not isinstance(content.data, Mapping):
                raise TypeError(f"data must be a JSON object, not {type(content.data).__name__}")
            begun = message.has_content(content)
            run.append(self._encoder.content(number, message.id, message.index, begun, Status.IN_PROGRESS))
        self._complete_content(message, content, Status.COMPLETED)

    def _content(self, content: Content) -> None:
        message = self._opened(MessageType.MESSAGE, Role.ASSISTANT)
        self._close_text(Status.COMPLETED)
        self._whole_content(message, content)

    def _message(self, given: Message) -> None:
        self._close(Status.COMPLETED)
        message = self._opened(given.type, given.role, given.id or new_id("msg_"), given.metadata)
        for content in given.content:
            self._whole_content(message, content)
        if given.usage is not None:
            self._usage(given.usage)
        self._close(Status.COMPLETED)

    def _usage(self, usage: Usage) -> None:
        usage = validate_usage(usage)
        run = self._run
        run.usage = add_usage(run.usage, usage)
        if self._open is not None:
            self._open.usage = add_usage(self._open.usage, usage)
        if run.budget_tracker is not None and not run.budget_tracker.add_tokens(usage.total):
            raise asyncio.CancelledError

    def _close(self, status: Status) -> None:
        message = self._open
        if message is None:
            return
        self._close_text(status)
        self._open = None
        run = self._run
        number = run.next_sequence_number
        finished = message.finished(status, number)
        if self.spans is not None:
            self.spans.told(finished.message)
        run.append(self._encoder.message(number, finished))
        self.output.append(finished)

    def _told(self, messages: Sequence[Message]) -> None:
        for message in messages:
            self._remember(message)
        self._respond(Status.IN_PROGRESS, messages)

    def _respond(self, status: Status, told: Sequence[Message] = ()) -> None:
        run = self._run
        run.status = status
        if run.budget_tracker is not None:
            run.budget_tracker.checkpoint_time()
        if status is not Status.CREATED:
            run.status_at = round(run.completed_at or time.time(), 6)
        output = self.output if status.terminal else ()
        snapshot = run.snapshot()
        snapshot.input = told
        run.append(self._encoder.response(run.next_sequence_number, snapshot, output))
        run.change_record()

    def _remember_output(self) -> None:
        for finished in self.output[self._remembered :]:
            if finished.message.type is not MessageType.HEARTBEAT:
                self._remember(finished.message)
        self._remembered = len(self.output)

    def _remember(self, message: Message) -> None:
        self._run.add_message(to_session_message(self._run, self._encoder, message))


def _safe_error_text(words: str) -> str:
    """Make an exception's text encodable and limit its length."""
    return words[:ERROR_CHARACTERS].encode(errors="replace").decode()
