"""Translates the stream of Pydantic AI to the agent protocol, and its deferred tools to questions."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from pydantic_ai.messages import (
    AudioUrl,
    BinaryContent,
    DocumentUrl,
    FilePart,
    FunctionToolResultEvent,
    ImageUrl,
    NativeToolCallPart,
    NativeToolReturnPart,
    PartDeltaEvent,
    PartStartEvent,
    RetryPromptPart,
    TextPart,
    TextPartDelta,
    ThinkingPart,
    ThinkingPartDelta,
    ToolCallPart,
    ToolCallPartDelta,
    VideoUrl,
)
from pydantic_ai.run import AgentRunResultEvent
from pydantic_ai.tools import DeferredToolRequests, DeferredToolResults, ToolDenied

from portico.agent.builders import CallDelta, Delta, NewMessage, data, tool_output
from portico.agent.context import Context, InputRequest
from portico.frameworks.common.conversation_turns import answer_value, conversation_turns
from portico.frameworks.common.history import earlier_messages
from portico.frameworks.common.input_requests import approval_of, approved, question_of
from portico.frameworks.common.url_content import content_from_url
from portico.frameworks.pydantic_ai.messages import prompt_of, to_pydantic_ai
from portico.model.messages import Content, Message, MessageType, Role, Usage

_REASONING = MessageType.REASONING


class PydanticRun:
    """The translation of one run."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._history: Sequence[Any] = []
        self._calls: dict[int, CallDelta] = {}  # by part of the open response
        self._deferred: DeferredToolRequests | None = None
        self._asking: list[tuple[ToolCallPart, bool]] = []  # calls, and whether only approval is requested
        self._results: dict[str, Any] = {}
        self._approvals: dict[str, Any] = {}
        self._say: Mapping[type, Callable[[Any], list[object]]] = {
            PartDeltaEvent: self._delta,
            PartStartEvent: self._start,
            FunctionToolResultEvent: self._result,
            AgentRunResultEvent: self._ended,
        }

    async def begin(self) -> Mapping[str, Any]:
        given = self._context.request.input
        said = conversation_turns(given)
        prompt = prompt_of(said[-1]) if said and said[-1].role is Role.USER else None
        self._history = to_pydantic_ai(await earlier_messages(self._context))
        before = to_pydantic_ai(given)[: -1 if prompt is not None else None]
        return self._arguments(prompt, [*self._history, *before], None)

    def _arguments(self, prompt: Any, history: Sequence[Any], deferred: Any) -> Mapping[str, Any]:
        given = to_pydantic_ai(self._context.request.input)
        return {"msgs": given, "prompt": prompt, "history": history, "deferred": deferred}

    def say(self, item: Any) -> Iterable[object]:
        say = self._say.get(type(item))
        if say is not None:
            return say(item)
        if hasattr(item, "event_kind"):
            return ()  # internal events of the agent, not output
        raise TypeError(f"a Pydantic AI agent may yield its events, not {type(item).__name__}")

    def _start(self, event: PartStartEvent) -> list[object]:
        part = event.part
        if isinstance(part, TextPart):
            return [NewMessage(), part.content]
        if isinstance(part, ThinkingPart):
            return [Delta(part.content, _REASONING)]
        if isinstance(part, ToolCallPart | NativeToolCallPart):
            args = part.args if isinstance(part.args, str) else json.dumps(part.args) if part.args else ""
            begun = self._calls[event.index] = CallDelta(part.tool_call_id, part.tool_name, args)
            return [begun]
        if isinstance(part, NativeToolReturnPart):
            return [tool_output(part.tool_call_id, part.model_response_str(), name=part.tool_name)]
        if isinstance(part, FilePart):
            return [content_from_url(part.content.data_uri, part.content.media_type)]
        return []

    def _delta(self, event: PartDeltaEvent) -> list[object]:
        delta = event.delta
        if type(delta) is TextPartDelta:
            return [delta.content_delta]
        if isinstance(delta, ThinkingPartDelta):
            return [Delta(delta.content_delta, _REASONING)] if delta.content_delta else []
        begun = self._calls.get(event.index)
        if isinstance(delta, ToolCallPartDelta) and begun is not None and delta.args_delta:
            args = delta.args_delta if isinstance(delta.args_delta, str) else json.dumps(delta.args_delta)
            return [CallDelta(begun.call_id, begun.name, args)]
        return []

    def _result(self, event: FunctionToolResultEvent) -> list[object]:
        part = event.part
        failed = isinstance(part, RetryPromptPart)
        words = part.model_response() if failed else part.model_response_str()
        said = tool_output(event.tool_call_id, words, name=part.tool_name or "")
        content = (*said.content, *_media(part.content), *_media(event.content))
        return [Message(said.role, content, said.type, metadata={"status": "error"} if failed else {})]

    def _ended(self, event: AgentRunResultEvent[Any]) -> list[object]:
        result = event.result
        used = result.usage
        reasoned = used.details.get("reasoning_tokens", 0)
        said: list[object] = [
            Usage(used.input_tokens, used.output_tokens, 0, used.cache_read_tokens, reasoned)
        ]
        output = result.output
        if isinstance(output, DeferredToolRequests):
            self._deferred, self._history = output, result.all_messages()
            self._asking = [(call, True) for call in output.approvals]
            self._asking += [(call, False) for call in output.calls]
        elif not isinstance(output, str):
            fields = output.model_dump(mode="json") if hasattr(output, "model_dump") else output
            said.append(data(fields if isinstance(fields, Mapping) else {"output": fields}))
        return said

    def rest(self) -> Iterable[object]:
        return ()

    def question(self) -> InputRequest | None:
        if not self._asking:
            return None
        call, approval = self._asking[0]
        if approval:
            return approval_of(self._context, call.tool_name, call.args_as_json_str())
        asked = {"question": f"What does {call.tool_name} give?", "arguments": call.args_as_json_str()}
        return question_of(self._context, asked)

    def answered(self, answer: Sequence[Message]) -> Mapping[str, Any] | None:
        call, approval = self._asking.pop(0)
        if approval:
            self._approvals[call.tool_call_id] = True if approved(answer) else ToolDenied()
        else:
            self._results[call.tool_call_id] = answer_value(answer)
        if self._asking:
            return None
        results = DeferredToolResults(calls=self._results, approvals=self._approvals)
        self._results, self._approvals = {}, {}
        return self._arguments(None, self._history, results)

    async def end(self) -> None:
        """Does nothing: the session has already saved everything."""


def _media(content: Any) -> list[Content]:
    """Returns images, audio and files of a tool's result, single or in a list."""
    said: list[Content] = []
    for part in content if isinstance(content, list | tuple) else (content,):
        if isinstance(part, BinaryContent):
            said.append(content_from_url(part.data_uri, part.media_type))
        elif isinstance(part, ImageUrl | AudioUrl | VideoUrl | DocumentUrl):
            said.append(content_from_url(part.url, part.media_type))
    return said
