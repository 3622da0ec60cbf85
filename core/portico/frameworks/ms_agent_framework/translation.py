"""Translates the stream of the Microsoft Agent Framework to the agent protocol, and its approvals to
questions.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from agent_framework import AgentSession
from agent_framework import Message as TheirMessage

from portico.agent.builders import CallDelta, Delta, NewMessage, data, file, tool_output
from portico.agent.context import Context, InputRequest, ReportedError
from portico.frameworks.common.input_requests import approval_of, approved
from portico.frameworks.common.url_content import content_from_url
from portico.frameworks.ms_agent_framework.messages import to_agent_framework
from portico.frameworks.openai.fields import failure_of
from portico.model.messages import Message, MessageType, Usage

_REASONING = MessageType.REASONING
_COUNTED = ("input", "output", "total", "cache_read_input", "reasoning_output")


class AgentFrameworkRun:
    """The translation of one run."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._kept = context.state.part("ms_agent_framework")
        self._session = AgentSession(session_id=context.session_id)
        self._message: str | None = None
        self._call = CallDelta("", "", "")  # the call whose arguments are being streamed
        self._pieces: list[str] = []  # of the current text, reasoning or arguments
        self._used: list[int] = [0] * len(_COUNTED)  # token counts of the agent's open call
        self._names: dict[str, str] = {}  # of tools, by call
        self._asking: list[Any] = []
        self._answers: list[Any] = []
        self._say: Mapping[str, Callable[[Any], list[object]]] = {
            "text": self._words,
            "text_reasoning": self._thought,
            "function_call": self._calling,
            "function_result": self._result,
            "mcp_server_tool_call": self._mcp_call,
            "mcp_server_tool_result": self._mcp_result,
            "usage": self._usage,
            "data": self._located,
            "uri": self._located,
            "hosted_file": lambda content: [file(id=content.file_id, media_type=content.media_type or "")],
            "error": self._failed,
            "function_approval_request": self._ask,
        }

    async def begin(self) -> Mapping[str, Any]:
        saved = await self._kept.load()
        if saved is not None:
            self._session = AgentSession.from_dict(saved.state)
        return self._arguments(to_agent_framework(self._context.request.input))

    def _arguments(self, messages: Sequence[TheirMessage]) -> Mapping[str, Any]:
        return {"msgs": messages, "session": self._session}

    def say(self, item: Any) -> Iterable[object]:
        contents = getattr(item, "contents", None)
        if contents is None:
            if (messages := getattr(item, "messages", None)) is not None:  # a complete AgentResponse
                return [said for message in messages for said in (*self.say(message), NewMessage())]
            raise TypeError(f"an agent of the Agent Framework may yield updates, not {type(item).__name__}")
        said: list[object] = []
        if (id := item.message_id) and id != self._message:
            if self._message is not None:
                said.append(NewMessage())
            self._message = id
        for content in contents:
            say = self._say.get(content.type)
            said += say(content) if say is not None else [data(content.to_dict(exclude_none=True))]
        if not contents:
            _raise_failure(item)
        return said

    def _new(self, content: Any, text: str) -> str:
        """Returns the part that was not streamed: at its end a content is repeated as a whole."""
        if content.merge_mode != "replace":
            self._pieces.append(text)
            return text
        told, self._pieces = "".join(self._pieces), []
        return text.removeprefix(told)

    def _words(self, content: Any) -> list[object]:
        new = self._new(content, content.text or "")
        return [new] if new else []

    def _thought(self, content: Any) -> list[object]:
        new = self._new(content, content.text or "")
        return [Delta(new, _REASONING)] if new else []

    def _calling(self, content: Any) -> list[object]:
        if content.call_id and content.call_id != self._call.call_id:
            self._call = CallDelta(content.call_id, content.name or "", "")
            self._names[content.call_id] = content.name or ""
            self._pieces = []
        new = self._new(content, _text(content.arguments))
        return [CallDelta(self._call.call_id, self._call.name, new)]

    def _result(self, content: Any) -> list[object]:
        output = content.result if isinstance(content.result, str) else _text(content.result)
        failed = content.exception is not None
        said = tool_output(
            content.call_id,
            output or content.exception or "",
            name=content.name or self._names.get(content.call_id, ""),
        )
        media = [part for item in content.items or () if item.uri for part in self._located(item)]
        about = {"status": "error"} if failed else {}
        return [Message(said.role, (*said.content, *media), said.type, metadata=about)]  # type: ignore[arg-type]

    def _mcp_call(self, content: Any) -> list[object]:
        more = {"server_label": content.server_name or ""}
        arguments = _text(content.arguments)
        return [CallDelta(content.call_id, content.tool_name, arguments, MessageType.MCP_CALL, more)]

    def _mcp_result(self, content: Any) -> list[object]:
        return [tool_output(content.call_id, _text(content.output), type=MessageType.MCP_CALL_OUTPUT)]

    def _usage(self, content: Any) -> list[object]:
        details = content.usage_details or {}
        counted = [details.get(f"{name}_token_count") or 0 for name in _COUNTED]
        if content.merge_mode == "replace":
            # The sum of all model calls of the agent so far.
            counted, self._used = [max(n - b, 0) for n, b in zip(counted, self._used, strict=True)], counted
        heard, spoken, total, cached, reasoned = counted
        return [Usage(heard, spoken, total, cached, reasoned)]

    def _located(self, content: Any) -> list[object]:
        return [
            content_from_url(
                content.uri, content.media_type or "application/octet-stream", content.name or ""
            )
        ]

    def _failed(self, content: Any) -> list[object]:
        code = content.error_code or "MODEL_EXECUTION_FAILED"
        raise ReportedError(content.message or content.error_details or "the agent failed", code=str(code))

    def _ask(self, content: Any) -> list[object]:
        self._asking.append(content)
        return []

    def rest(self) -> Iterable[object]:
        return ()

    def question(self) -> InputRequest | None:
        if not self._asking:
            return None
        call = self._asking[0].function_call
        return approval_of(self._context, call.name, _text(call.arguments))

    def answered(self, answer: Sequence[Message]) -> Mapping[str, Any] | None:
        self._answers.append(self._asking.pop(0).to_function_approval_response(approved(answer)))
        if self._asking:
            return None
        answers, self._answers = self._answers, []
        self._used = [0] * len(_COUNTED)
        return self._arguments([TheirMessage("user", answers)])

    async def end(self) -> None:
        await self._kept.save(json.loads(json.dumps(self._session.to_dict(), default=str)), round_id=1)


def _raise_failure(update: Any) -> None:
    """Raises the failure that OpenAI's Responses API reported; the framework passes on only the raw event."""
    raw = getattr(getattr(update, "raw_representation", None), "raw_representation", None)
    if getattr(raw, "type", None) == "response.failed":
        raise failure_of(getattr(raw, "response", None).error)  # type: ignore[union-attr]


def _text(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    return json.dumps(value, ensure_ascii=False, default=str)
