"""Converts a run's log to one choice of Chat Completions, as chunks or as a whole.

Both forms are derived from the same events. Messages and reasoning become `content` and `reasoning_content`,
separated by blank lines; calls for the caller become `tool_calls`. Calls that the agent executes itself are
left out, since a client would execute them again.
"""

from collections.abc import Mapping
from typing import Any

import orjson

from portico.client.run_status import TERMINAL_STATUSES
from portico.gateways.http.sse_stream import Frames
from portico.gateways.openai.content_text import content_as_text, content_data, content_text
from portico.gateways.openai.errors import NO_RETRY, OpenAiError, error_json, from_run
from portico.v1 import events_pb2 as pb

dumps = orjson.dumps

CONTENT, REFUSAL, REASONING, CALLS = "content", "refusal", "reasoning_content", "tool_calls"
DONE = b"data: [DONE]\n\n"
# The field for the content of each message type; messages of other types are internal to the agent.
_CHANNELS = {
    pb.MESSAGE_TYPE_UNSPECIFIED: CONTENT,
    pb.MESSAGE_TYPE_MESSAGE: CONTENT,
    pb.MESSAGE_TYPE_ERROR: CONTENT,
    pb.MESSAGE_TYPE_A2UI_RESPONSE: CONTENT,
    pb.MESSAGE_TYPE_REASONING: REASONING,
    pb.MESSAGE_TYPE_FUNCTION_CALL: CALLS,
}
# Error codes of agents that only stopped early.
_FINISHES = {
    "length": "length",
    "max_tokens": "length",
    "max_output_tokens": "length",
    "budget_exceeded": "length",
    "content_filter": "content_filter",
}
_BLANK_LINE = "\n\n"


class ChoiceBuilder:
    """Follows a log event by event, and calls the methods that a subclass implements for its kind of
    answer.
    """

    def __init__(self) -> None:
        self.response = pb.Response()  # the latest
        self.finish = ""  # set when the answer ended without an error
        self.error: OpenAiError | None = None  # set when the answer ended with an error
        self._forget()

    def _forget(self) -> None:
        self._channels: dict[str, str | None] = {}  # message id to channel
        # channel to the last message in it, and whether it was text
        self._last: dict[str, tuple[str, bool]] = {}
        self._streamed: set[tuple[str, int]] = set()  # contents sent as deltas
        self._calls: dict[tuple[str, int], int] = {}
        self._arguments: dict[tuple[str, int], str] = {}  # arguments of those calls, as far as sent

    @property
    def over(self) -> bool:
        """Whether the answer is complete."""
        return bool(self.finish) or self.error is not None

    def began(self, response: pb.Response) -> None:
        """Called when the run has begun."""

    def say(self, channel: str, text: str) -> None:
        """Adds text to a channel."""
        raise NotImplementedError

    def call(self, index: int, call_id: str, name: str) -> None:
        """Adds a call for the caller."""
        raise NotImplementedError

    def arguments(self, index: int, text: str) -> None:
        """Adds text to the call's arguments."""
        raise NotImplementedError

    def restart(self) -> None:
        """Discards the output so far: the agent starts again."""
        raise NotImplementedError

    def event(self, event: pb.Event) -> None:
        """Processes any event except a text delta."""
        if self.over:
            return
        match event.WhichOneof("object"):
            case "content":
                self._content(event.content)
            case "message":
                self._channels[event.message.id] = _CHANNELS.get(event.message.type)
            case "response":
                self._response(event.response)

    def speaker(self, content: pb.Content) -> str | None:
        """Returns the channel for a content's text, and adds a blank line first if the channel already has
        another message.
        """
        channel = self._channels.get(content.msg_id)
        if channel is None or channel is CALLS:
            return None
        if content.HasField("refusal"):
            channel = REFUSAL
        self._set_apart(channel, content.msg_id, is_text=True)
        return channel

    def _set_apart(self, channel: str, msg_id: str, *, is_text: bool) -> None:
        before = self._last.get(channel)
        self._last[channel] = (msg_id, is_text)
        goes_on = is_text and before == (msg_id, True)
        if before is not None and not goes_on:
            self.say(channel, _BLANK_LINE)

    def _content(self, content: pb.Content) -> None:
        channel = self._channels.get(content.msg_id)
        if channel is CALLS:
            self._call(content)
            return
        place = (content.msg_id, content.index)
        if content.delta:
            # Only refusals are streamed here; data and the like arrive complete.
            if content.refusal and (spoken := self.speaker(content)):
                self._streamed.add(place)
                self.say(spoken, content.refusal)
            return
        if channel is None or content.status == pb.RUN_STATUS_IN_PROGRESS or place in self._streamed:
            return
        if not (text := content_text(content)):
            return
        if content.HasField("refusal"):
            channel = REFUSAL
        self._set_apart(channel, content.msg_id, is_text=content.HasField("text") or channel is REFUSAL)
        self.say(channel, text)

    def _call(self, content: pb.Content) -> None:
        told = content_data(content)
        place = (content.msg_id, content.index)
        if place not in self._calls:
            self._calls[place] = len(self._calls)
            call_id = content_as_text(told.get("call_id")) or content.msg_id
            self.call(self._calls[place], call_id, content_as_text(told.get("name")))
        arguments, before = told.get("arguments"), self._arguments.get(place, "")
        if content.status != pb.RUN_STATUS_IN_PROGRESS:
            arguments = content_as_text(arguments)
        if isinstance(arguments, str) and arguments != before and arguments.startswith(before):
            self._arguments[place] = arguments
            self.arguments(self._calls[place], arguments[len(before) :])

    def _response(self, response: pb.Response) -> None:
        before, self.response = self.response, response
        if not before.id:
            self.began(response)
        elif response.attempt > before.attempt:
            self.restart()
            self._forget()
        if response.status == pb.RUN_STATUS_INPUT_REQUIRED:
            self._set_apart(CONTENT, response.input_request.id, is_text=True)
            self.say(CONTENT, response.input_request.prompt)
            self._finish("stop")
        elif response.status in TERMINAL_STATUSES:
            self._end(response)

    def _end(self, response: pb.Response) -> None:
        code, message = response.error.code, response.error.message
        match response.status:
            case pb.RUN_STATUS_COMPLETED:
                self._finish("stop")
            case pb.RUN_STATUS_INCOMPLETE:
                self.finish = _FINISHES.get(code, "length")
            case pb.RUN_STATUS_FAILED if code in _FINISHES:
                self.finish = _FINISHES[code]
            case pb.RUN_STATUS_CANCELED:
                self.error = OpenAiError(
                    message or "the run was cancelled",
                    status=409,
                    code=code or "run_canceled",
                    headers=NO_RETRY,
                )
            case _:
                self.error = from_run(code, message, rejected=response.status == pb.RUN_STATUS_REJECTED)

    def _finish(self, reason: str) -> None:
        self.finish = "tool_calls" if self._calls else reason


class WholeChoice(ChoiceBuilder):
    """The answer as one object."""

    def __init__(self) -> None:
        super().__init__()
        self._texts: dict[str, list[str]] = {}
        self._made: list[dict[str, Any]] = []

    def take(self, frames: Frames) -> None:
        """Processes frames; contents are read once they are complete."""
        for frame in frames:
            for event in frame.events:
                if not event.content.delta:
                    self.event(event)

    def say(self, channel: str, text: str) -> None:
        self._texts.setdefault(channel, []).append(text)

    def call(self, index: int, call_id: str, name: str) -> None:
        function = {"name": name, "arguments": ""}
        self._made.append({"id": call_id, "type": "function", "function": function})

    def arguments(self, index: int, text: str) -> None:
        self._made[index]["function"]["arguments"] += text

    def restart(self) -> None:
        self._texts.clear()
        self._made.clear()

    def json(self, model: str) -> dict[str, Any]:
        """Returns the answer. Raises OpenAiError when the run has failed."""
        if self.error is not None:
            raise self.error
        response = self.response
        message: dict[str, Any] = {
            "role": "assistant",
            "content": self._text(CONTENT),
            "refusal": self._text(REFUSAL),
            "annotations": [],
        }
        if (thought := self._text(REASONING)) is not None:
            message[REASONING] = thought
        if self._made:
            message[CALLS] = self._made
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": self.finish}
        value = {
            "id": completion_id(response.id),
            "object": "chat.completion",
            "created": response.created_time.seconds,
            "model": model,
            "choices": [choice],
            "usage": usage_json(response.usage),
            "service_tier": "default",
            "system_fingerprint": None,
        }
        if response.metadata_json:
            value["metadata"] = orjson.Fragment(response.metadata_json)
        return value

    def _text(self, channel: str) -> str | None:
        parts = self._texts.get(channel)
        if parts is not None:
            return "".join(parts)
        # An empty answer is an empty string; null is only for answers with calls or a refusal.
        return "" if channel is CONTENT and not self._made and REFUSAL not in self._texts else None


class ChunkedChoice(ChoiceBuilder):
    """The answer as chunks, each an SSE frame."""

    def __init__(self, model: str, *, include_usage: bool) -> None:
        super().__init__()
        self._model = model
        self._include_usage = include_usage
        self._out: list[bytes] = []
        self._begun = b""  # start of every chunk, up to its delta
        self._rest = b',"logprobs":null,"finish_reason":null}]' + (
            b',"usage":null}\n\n' if include_usage else b"}\n\n"
        )
        self._delta_rest = b"}" + self._rest
        # The streaming content, and the bytes before its text; for the hot path.
        self._open: tuple[str, int, bytes] = ("", -1, b"")
        self._said = False

    def frames(self, frames: Frames) -> list[bytes]:
        """Returns the chunks of the frames; the last one is an error if the run has failed."""
        out = self._out = []
        msg_id, index, head = self._open
        rest = self._delta_rest
        for frame in frames:
            for event in frame.events:
                content = event.content
                text = content.text
                if text and content.delta:
                    if content.msg_id != msg_id or content.index != index:
                        self._open_text(content)
                        msg_id, index, head = self._open
                    if head:
                        # Joining parts is cheaper than formatting them.
                        out.append(b"".join((head, dumps(text), rest)))
                else:
                    self.event(event)
        return out

    def began(self, response: pb.Response) -> None:
        told = {
            "id": completion_id(response.id),
            "object": "chat.completion.chunk",
            "created": response.created_time.seconds,
            "model": self._model,
        }
        self._begun = b"data: " + dumps(told)[:-1] + b',"choices":[{"index":0,"delta":'
        self._chunk({"role": "assistant", "content": "", "refusal": None})

    def say(self, channel: str, text: str) -> None:
        self._said = True
        self._chunk({channel: text})

    def call(self, index: int, call_id: str, name: str) -> None:
        function = {"name": name, "arguments": ""}
        self._said = True
        self._chunk({CALLS: [{"index": index, "id": call_id, "type": "function", "function": function}]})

    def arguments(self, index: int, text: str) -> None:
        self._chunk({CALLS: [{"index": index, "function": {"arguments": text}}]})

    def restart(self) -> None:
        if self._said:
            # Sent chunks can't be withdrawn, and half an answer before a complete one would be wrong.
            message = (
                "the agent was interrupted and starts again; discard its output so far and repeat the request"
            )
            self.error = OpenAiError(message, status=503, code="run_restarted")

    def _open_text(self, content: pb.Content) -> None:
        channel = None if self.over else self.speaker(content)
        head = b""
        if channel is not None:
            self._said = True
            self._streamed.add((content.msg_id, content.index))
            head = b'%b{"%b":' % (self._begun, channel.encode())
        self._open = (content.msg_id, content.index, head)

    def _chunk(self, delta: Mapping[str, Any]) -> None:
        self._out.append(self._begun + dumps(delta) + self._rest)

    def _response(self, response: pb.Response) -> None:
        super()._response(response)
        if self.error is not None:
            self._out.append(error_frame(self.error))
        elif self.finish:
            reason = b'"finish_reason":"%b"' % self.finish.encode()
            self._out.append(self._begun + b"{}" + self._rest.replace(b'"finish_reason":null', reason))
            if self._include_usage:
                self._out.append(self._usage_chunk(response))

    def _usage_chunk(self, response: pb.Response) -> bytes:
        head, _, _ = self._begun.partition(b'[{"index":0')
        return b'%b[],"usage":%b}\n\n' % (head, dumps(usage_json(response.usage)))


def completion_id(run_id: str) -> str:
    """Returns the id of a chat completion for a run."""
    return "chatcmpl-" + run_id.removeprefix("resp_")


def error_frame(error: OpenAiError) -> bytes:
    """Returns an error as an SSE frame."""
    return b"data: %b\n\n" % dumps(error_json(error))


def usage_json(usage: pb.Usage) -> dict[str, Any]:
    """Returns token counts in OpenAI's names, and the provider's other usage fields beside them."""
    value: dict[str, Any] = {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_input_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_output_tokens},
    }
    details = orjson.loads(usage.details_json or "{}")
    return {**value, **{name: said for name, said in details.items() if name not in value}}
