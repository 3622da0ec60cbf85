"""Translates the stream of an AgentScope agent to the agent protocol, and its confirmations to questions."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from agentscope.event import (
    ConfirmResult,
    ExternalExecutionResultEvent,
    RequireExternalExecutionEvent,
    RequireUserConfirmEvent,
    UserConfirmResultEvent,
)
from agentscope.message import Msg, ToolResultBlock, ToolResultState
from agentscope.state import AgentState

from portico.agent.builders import CallDelta, Delta, NewMessage, data, tool_output
from portico.agent.context import Context, InputRequest
from portico.frameworks.agentscope.messages import to_agentscope
from portico.frameworks.common.conversation_turns import answer_value
from portico.frameworks.common.cumulative_messages import Snapshots
from portico.frameworks.common.history import earlier_messages
from portico.frameworks.common.input_requests import approval_of, approved, question_of
from portico.frameworks.common.url_content import content_from_url
from portico.model.messages import Content, Message, MessageType, Role, TextContent, Usage

_REASONING = MessageType.REASONING
# Notes of the framework to the model, such as the time and the use of its context: not for users.
_RUNTIME_STATE = '{"label": "System", "sublabel": "Runtime State"}'


class AgentRun:
    """The translation of one run."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._kept = context.state.part("agentscope")
        self._state = AgentState(session_id=context.session_id)
        self._calls: dict[str, str] = {}  # name by id
        self._results: dict[str, tuple[str, list[str], list[Content]]] = {}  # results that are not complete
        self._data: dict[str, tuple[str, list[str]]] = {}  # blocks that are not complete
        self._snapshots = Snapshots()
        self._asking: RequireUserConfirmEvent | RequireExternalExecutionEvent | None = None
        self._asked: list[Any] = []
        self._say: Mapping[str, Callable[[Any], Iterable[object]]] = {
            "MODEL_CALL_END": self._usage,
            "TEXT_BLOCK_START": lambda event: (NewMessage(),),
            "TEXT_BLOCK_DELTA": lambda event: (event.delta,),
            "THINKING_BLOCK_DELTA": lambda event: (Delta(event.delta, _REASONING),),
            "DATA_BLOCK_START": self._data_start,
            "DATA_BLOCK_DELTA": self._data_delta,
            "DATA_BLOCK_END": self._data_end,
            "HINT_BLOCK": self._hint,
            "TOOL_CALL_START": self._call_start,
            "TOOL_CALL_DELTA": self._call_delta,
            "TOOL_RESULT_START": self._result_start,
            "TOOL_RESULT_TEXT_DELTA": self._result_text,
            "TOOL_RESULT_DATA_DELTA": self._result_data,
            "TOOL_RESULT_END": self._result_end,
            "REQUIRE_USER_CONFIRM": self._ask,
            "REQUIRE_EXTERNAL_EXECUTION": self._ask,
            "CUSTOM": lambda event: (data({"name": event.name, "value": event.value}),),
        }

    async def begin(self) -> Mapping[str, Any]:
        context = self._context
        saved = await self._kept.load()
        if saved is not None:
            self._state = AgentState.model_validate(saved.state)
        else:
            self._state.context = to_agentscope(await earlier_messages(context))
        messages = to_agentscope(context.request.input, user=context.user_id or "user")
        return self._arguments(messages, messages)

    def _arguments(self, messages: Sequence[Msg], input: Any) -> Mapping[str, Any]:
        return {"msgs": messages, "input": input, "state": self._state}

    def say(self, item: Any) -> Iterable[object]:
        kind = getattr(item, "type", None)
        if isinstance(kind, str):
            say = self._say.get(kind)
            return say(item) if say is not None else ()
        return self._snapshots.say(item)

    def _usage(self, event: Any) -> Iterable[object]:
        return (Usage(event.input_tokens, event.output_tokens),)

    def _call_start(self, event: Any) -> Iterable[object]:
        self._calls[event.tool_call_id] = event.tool_call_name
        return (CallDelta(event.tool_call_id, event.tool_call_name, ""),)

    def _call_delta(self, event: Any) -> Iterable[object]:
        return (CallDelta(event.tool_call_id, self._calls.get(event.tool_call_id, ""), event.delta),)

    def _result_start(self, event: Any) -> Iterable[object]:
        self._results[event.tool_call_id] = (event.tool_call_name, [], [])
        return ()

    def _result_text(self, event: Any) -> Iterable[object]:
        self._results[event.tool_call_id][1].append(event.delta)
        return ()

    def _result_data(self, event: Any) -> Iterable[object]:
        url = str(event.url) if event.url else f"data:{event.media_type};base64,{event.data}"
        self._results[event.tool_call_id][2].append(content_from_url(url, event.media_type))
        return ()

    def _result_end(self, event: Any) -> Iterable[object]:
        state = str(event.state)
        return (self._result(event.tool_call_id, "" if state == "success" else state),)

    def _result(self, id: str, state: str) -> Message:
        name, words, media = self._results.pop(id, (self._calls.get(id, ""), [], []))
        said = tool_output(id, "".join(words), name=name)
        about = {"status": state} if state else {}
        return Message(said.role, (*said.content, *media), said.type, metadata=about)

    def _data_start(self, event: Any) -> Iterable[object]:
        self._data[event.block_id] = (event.media_type, [])
        return ()

    def _data_delta(self, event: Any) -> Iterable[object]:
        self._data[event.block_id][1].append(event.data)
        return ()

    def _data_end(self, event: Any) -> Iterable[object]:
        type, pieces = self._data.pop(event.block_id, ("", []))
        if not pieces:
            return ()
        # Each piece is separate base64 with its own padding.
        joined = pieces[0] if len(pieces) == 1 else _joined(pieces)
        return (content_from_url(f"data:{type};base64,{joined}", type),)

    def _hint(self, event: Any) -> Iterable[object]:
        """Returns input that the agent received from elsewhere while it was executing."""
        if event.source == _RUNTIME_STATE:
            return ()
        hint = event.hint if isinstance(event.hint, str) else ""
        words = hint or "".join(block.text for block in event.hint if block.type == "text")
        about = {"source": event.source} if event.source else {}
        return (Message(Role.SYSTEM, (TextContent(words),), metadata=about),) if words else ()

    def _ask(self, event: Any) -> Iterable[object]:
        self._asking, self._asked = event, []
        return ()

    def rest(self) -> Iterable[object]:
        """Returns the results that were not complete when the run was stopped."""
        return [self._result(id, "interrupted") for id in list(self._results)]

    def question(self) -> InputRequest | None:
        asking = self._asking
        if asking is None:
            return None
        call = asking.tool_calls[len(self._asked)]
        if isinstance(asking, RequireUserConfirmEvent):
            return approval_of(self._context, call.name, call.input)
        said = {"question": f"What does {call.name} give?", "name": call.name, "arguments": call.input}
        return question_of(self._context, said)

    def answered(self, answer: Sequence[Message]) -> Mapping[str, Any] | None:
        asking = self._asking
        assert asking is not None
        call = asking.tool_calls[len(self._asked)]
        if isinstance(asking, RequireUserConfirmEvent):
            self._asked.append(ConfirmResult(confirmed=approved(answer), tool_call=call))
        else:
            value = answer_value(answer)
            output = value if isinstance(value, str) else str(value)
            state = ToolResultState.SUCCESS
            self._asked.append(ToolResultBlock(id=call.id, name=call.name, output=output, state=state))
        if len(self._asked) < len(asking.tool_calls):
            return None
        self._asking = None
        input = (
            UserConfirmResultEvent(reply_id=asking.reply_id, confirm_results=self._asked)
            if isinstance(asking, RequireUserConfirmEvent)
            else ExternalExecutionResultEvent(reply_id=asking.reply_id, execution_results=self._asked)
        )
        return self._arguments(to_agentscope(answer), input)

    async def end(self) -> None:
        """Saves the state, also of a stopped run: the agent has recorded its own position by then."""
        await self._kept.save(self._state.model_dump(mode="json"), round_id=1)


def _joined(pieces: Sequence[str]) -> str:
    from base64 import b64decode, b64encode

    return b64encode(b"".join(b64decode(piece) for piece in pieces)).decode()
