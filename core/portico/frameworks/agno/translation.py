"""Translates the stream of an Agno agent or team to the agent protocol, and its pauses to questions."""

import json
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from agno.db.in_memory import InMemoryDb

from portico.agent.builders import CallDelta, Delta, NewMessage, data, tool_output
from portico.agent.context import Context, InputRequest, ReportedError
from portico.frameworks.agno.messages import to_agno
from portico.frameworks.common.conversation_turns import answer_value
from portico.frameworks.common.input_requests import approval_of, approved, question_of
from portico.frameworks.common.url_content import content_from_url
from portico.model.messages import Content, Message, MessageType, Usage

_REASONING = MessageType.REASONING
_TYPES = {
    "images": "image/png",
    "videos": "video/mp4",
    "audio": "audio/wav",
    "files": "application/octet-stream",
}


class AgnoRun:
    """The translation of one run."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._kept = context.state.part("agno")
        self._db = InMemoryDb()
        self._asking: list[Any] = []  # unanswered requirements
        self._required: Sequence[Any] = ()
        self._paused = ""  # id of the paused run
        self._spoke = False
        self._say: Mapping[str, Callable[[Any], list[object]]] = {
            "RunContent": self._content,
            "RunIntermediateContent": self._content,
            "ReasoningContentDelta": lambda event: [Delta(event.reasoning_content, _REASONING)],
            "ModelRequestStarted": lambda event: [NewMessage()],
            "ModelRequestCompleted": self._usage,
            "ToolCallStarted": self._call,
            "ToolCallCompleted": self._result,
            "ToolCallError": self._failed,
            "RunCompleted": self._completed,
            "RunPaused": self._pause,
            "RunError": self._error,
            "CustomEvent": lambda event: [data(event.to_dict())],
        }

    async def begin(self) -> Mapping[str, Any]:
        saved = await self._kept.load()
        if saved is not None:
            self._db._sessions = dict(saved.state["sessions"])
        return self._arguments(self._context.request.input, None)

    def _arguments(self, messages: Sequence[Message], paused: Any) -> Mapping[str, Any]:
        return {"msgs": to_agno(messages), "db": self._db, "paused": paused}

    def say(self, item: Any) -> Iterable[object]:
        kind = getattr(item, "event", None)
        if isinstance(kind, str):
            say = self._say.get(kind.removeprefix("Team"))
            return say(item) if say is not None else ()
        if hasattr(item, "content") and hasattr(item, "run_id"):  # a complete RunOutput
            return [*self._content(item), *self._completed(item)]
        raise TypeError(f"an Agno agent may yield its events, not {type(item).__name__}")

    def _content(self, event: Any) -> list[object]:
        said: list[object] = []
        if thought := event.reasoning_content if hasattr(event, "reasoning_content") else None:
            said.append(Delta(thought, _REASONING))
        content = event.content
        if isinstance(content, str):
            if content:
                self._spoke = True
                said.append(content)
        elif content is not None:
            said.append(_fields(content))
        if picture := getattr(event, "image", None):
            said.append(_media(picture, "image/png"))
        return said

    def _usage(self, event: Any) -> list[object]:
        heard, spoken = event.input_tokens or 0, event.output_tokens or 0
        cached, reasoned = event.cache_read_tokens or 0, event.reasoning_tokens or 0
        return [Usage(heard, spoken, event.total_tokens or 0, cached, reasoned)]

    def _call(self, event: Any) -> list[object]:
        tool = event.tool
        arguments = json.dumps(tool.tool_args or {}, ensure_ascii=False)
        # Begins a new message, so that a repeated call with the same arguments is a separate call.
        return [NewMessage(), CallDelta(tool.tool_call_id or "", tool.tool_name or "", arguments)]

    def _result(self, event: Any, status: str = "") -> list[object]:
        tool = event.tool
        said = tool_output(tool.tool_call_id or "", tool.result or "", name=tool.tool_name or "")
        about = {"status": status or "error"} if status or tool.tool_call_error else {}
        content = (*said.content, *_all_media(event))
        return [Message(said.role, content, said.type, metadata=about)]

    def _failed(self, event: Any) -> list[object]:
        tool = event.tool
        said = tool_output(
            tool.tool_call_id or "", event.error or tool.result or "", name=tool.tool_name or ""
        )
        return [Message(said.role, said.content, said.type, metadata={"status": "error"})]

    def _completed(self, event: Any) -> list[object]:
        """Returns media that a model produced besides text; the text was already streamed."""
        return list(_all_media(event))

    def _error(self, event: Any) -> list[object]:
        raise ReportedError(
            event.content or "the agent failed", code=event.error_type or "MODEL_EXECUTION_FAILED"
        )

    def _pause(self, event: Any) -> list[object]:
        self._paused = event.run_id or ""
        self._required = list(event.requirements or ())
        self._asking = [requirement for requirement in self._required if not requirement.is_resolved()]
        return []

    def rest(self) -> Iterable[object]:
        return ()

    def question(self) -> InputRequest | None:
        if not self._asking:
            return None
        requirement = self._asking[0]
        tool = requirement.tool_execution
        if requirement.needs_confirmation:
            return approval_of(self._context, tool.tool_name, json.dumps(tool.tool_args or {}))
        if requirement.needs_user_input:
            wanted = [field for field in requirement.user_input_schema or () if field.value is None]
            properties = {field.name: {"description": field.description or ""} for field in wanted}
            schema = {"type": "object", "properties": properties, "required": list(properties)}
            return question_of(self._context, f"{tool.tool_name} needs: {', '.join(properties)}", schema)
        return question_of(
            self._context, {"question": f"What does {tool.tool_name} give?", **(tool.tool_args or {})}
        )

    def answered(self, answer: Sequence[Message]) -> Mapping[str, Any] | None:
        requirement = self._asking.pop(0)
        value = answer_value(answer)
        if requirement.needs_confirmation:
            if approved(answer):
                requirement.confirm()
            else:
                requirement.reject()
        elif requirement.needs_user_input:
            names = [field.name for field in requirement.user_input_schema or () if field.value is None]
            requirement.provide_user_input(value if isinstance(value, dict) else dict.fromkeys(names, value))
        else:
            result = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            requirement.set_external_execution_result(result)
        if self._asking:
            return None
        session = self._context.session_id
        paused = {"run_id": self._paused, "requirements": self._required, "session_id": session}
        return self._arguments(answer, paused)

    async def end(self) -> None:
        if self._db._sessions:
            sessions = json.loads(json.dumps(self._db._sessions, default=str))
            await self._kept.save({"sessions": sessions}, round_id=1)


def _fields(content: Any) -> object:
    fields = content.model_dump(mode="json") if hasattr(content, "model_dump") else content
    return data(fields if isinstance(fields, Mapping) else {"content": fields})


def _all_media(event: Any) -> Iterable[Content]:
    for name, usual in _TYPES.items():
        for thing in getattr(event, name, None) or ():
            yield _media(thing, usual)
    if spoken := getattr(event, "response_audio", None):
        yield _media(spoken, _TYPES["audio"])


def _media(thing: Any, usual: str) -> Content:
    type = getattr(thing, "mime_type", None) or usual
    name = getattr(thing, "filename", None) or ""
    content = getattr(thing, "content", None)
    if isinstance(content, bytes):
        return content_from_url(f"data:{type};base64,{b64encode(content).decode()}", type, name)
    return content_from_url(str(getattr(thing, "url", None) or ""), type, name)
