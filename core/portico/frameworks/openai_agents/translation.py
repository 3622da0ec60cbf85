"""Translates the stream of the OpenAI Agents SDK to the agent protocol, and its approvals to questions."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from agents.items import ToolApprovalItem, ToolCallOutputItem
from agents.memory import SessionABC
from agents.result import RunResult, RunResultStreaming
from agents.stream_events import AgentUpdatedStreamEvent, RawResponsesStreamEvent, RunItemStreamEvent

from portico.agent.builders import NewMessage, tool_output
from portico.agent.context import Context, InputRequest
from portico.frameworks.common.history import earlier_messages
from portico.frameworks.common.input_requests import approval_of, approved
from portico.frameworks.openai.fields import get
from portico.frameworks.openai.messages import to_items
from portico.frameworks.openai.responses import ResponsesReader, output_of
from portico.model.messages import Message


class PorticoSession(SessionABC):
    """The run's session. The run's messages join it by themselves; none can be removed."""

    def __init__(self, context: Context) -> None:
        self.session_id = context.session_id
        self._context = context

    async def get_items(self, limit: int | None = None) -> list[Any]:
        items = to_items(await earlier_messages(self._context))
        return items if limit is None else items[len(items) - min(limit, len(items)) :]

    async def add_items(self, items: list[Any]) -> None:
        """Does nothing: the run's log has the items."""

    async def pop_item(self) -> Any:
        return None

    async def clear_session(self) -> None:
        raise NotImplementedError("an agent cannot clear its session; use SessionService")


class AgentsRun:
    """The translation of one run."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._reader = ResponsesReader(frozenset(tool.name for tool in context.request.tools))
        self._result: Any = None
        self._asking: list[ToolApprovalItem] = []
        self._answers: list[bool] = []

    async def begin(self) -> Mapping[str, Any]:
        items = to_items(self._context.request.input)
        return self._arguments(items, items)

    def _arguments(self, items: Sequence[Any], input: Any) -> Mapping[str, Any]:
        return {"msgs": items, "input": input, "session": PorticoSession(self._context)}

    def say(self, item: Any) -> Iterable[object]:
        if isinstance(item, RawResponsesStreamEvent):
            return self._reader.event(item.data)
        if isinstance(item, RunItemStreamEvent):
            return self._item(item.item)
        if isinstance(item, AgentUpdatedStreamEvent):
            return (NewMessage(),)  # the next items belong to another agent
        if isinstance(item, RunResult | RunResultStreaming):
            self._result, self._asking = item, list(item.interruptions)
            return ()
        raise TypeError(f"an agent of the OpenAI Agents SDK may not yield {type(item).__name__}")

    def _item(self, item: Any) -> Iterable[object]:
        """Translates results only: the raw events contain everything else."""
        if not isinstance(item, ToolCallOutputItem):
            return ()
        output = item.output if isinstance(item.output, str) else get(item.raw_item, "output")
        id = get(item.raw_item, "call_id") or ""
        words, media = output_of(output)
        said = tool_output(id, words, name=self._reader.names.get(id, ""))
        return (Message(said.role, (*said.content, *media), said.type),)

    def rest(self) -> Iterable[object]:
        return ()

    def question(self) -> InputRequest | None:
        if not self._asking:
            return None
        item = self._asking[len(self._answers)]
        return approval_of(self._context, item.name or "", item.arguments or "")

    def answered(self, answer: Sequence[Message]) -> Mapping[str, Any] | None:
        self._answers.append(approved(answer))
        if len(self._answers) < len(self._asking):
            return None
        state = self._result.to_state()
        for item, yes in zip(self._asking, self._answers, strict=True):
            if yes:
                state.approve(item)
            else:
                state.reject(item)
        self._asking, self._answers = [], []
        return self._arguments(to_items(answer), state)

    async def end(self) -> None:
        """Does nothing: the session has already saved everything."""
