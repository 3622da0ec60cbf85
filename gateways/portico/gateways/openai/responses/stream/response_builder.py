"""One response of a run: its items, its lifecycle events, and the Response object at any time."""

from typing import Any

from portico.gateways.openai.responses.request.request_echo import RequestEcho
from portico.gateways.openai.responses.response_ids import sent_call_id
from portico.gateways.openai.responses.stream.event_writer import EventWriter
from portico.gateways.openai.responses.stream.output_items import COMPLETED, INCOMPLETE, Item, ToolItem
from portico.v1 import events_pb2 as pb

QUEUED = "queued"
IN_PROGRESS = "in_progress"
FAILED = "failed"
CANCELLED = "cancelled"

_TERMINAL_EVENT = {
    COMPLETED: "response.completed",
    FAILED: "response.failed",
    INCOMPLETE: "response.incomplete",
    # OpenAI has no event for cancellation. Clients accept an incomplete response as an end without an error.
    CANCELLED: "response.incomplete",
}
# OpenAI's codes for codes of the core.
_ERROR_CODE = {
    "AGENT_UNKNOWN_ERROR": "server_error",
    "agent_crashed": "server_error",
    "core_restarted": "server_error",
    "deadline_exceeded": "server_error",
    "rejected": "invalid_prompt",
}
# Error codes of agents that only stopped early.
_REASON = {
    "max_tokens": "max_output_tokens",
    "length": "max_output_tokens",
    "max_output_tokens": "max_output_tokens",
    "content_filter": "content_filter",
    "budget_exceeded": "budget_exceeded",
}
# Reasons for exceeded budgets that OpenAI's clients know.
_LIMIT_REASON = {
    pb.BUDGET_LIMIT_TOOL_CALLS: "max_tool_calls",
    pb.BUDGET_LIMIT_TOKENS: "max_output_tokens",
}


class ResponseBuilder:
    """A response in progress, built event by event."""

    def __init__(
        self,
        number: int,
        first: pb.Response,
        echo: RequestEcho,
        writer: EventWriter,
        usage_before: pb.Usage | None,
    ) -> None:
        self.number = number
        self.id = first.id if number == 1 else f"{first.id}_{number}"
        self.writer = writer
        self.status = QUEUED if echo.background and number == 1 else IN_PROGRESS
        self.input: list[pb.Message] = list(first.input)  # its input, unless it is the run's first response
        self._echo = echo
        self._constant = {
            **echo.fields,
            "id": self.id,
            "object": "response",
            "created_at": first.created_time.seconds,
            "model": echo.model or first.agent_name,
        }
        if number > 1:
            self._constant["previous_response_id"] = first.id if number == 2 else f"{first.id}_{number - 1}"
        self.agent_name = first.agent_name
        self.items: list[Item] = []
        self._next_index = 0
        self._ids: set[str] = set()
        self._usage_before = usage_before
        self._usage: pb.Usage | None = None
        self._completed_at: int | None = None
        self._error: dict[str, Any] | None = None
        self._reason: str | None = None
        self.started = False
        self.ended = False
        self._tell("response.created")

    @property
    def custom_tools(self) -> frozenset[str]:
        """The names of the caller's custom tools."""
        return self._echo.custom_tools

    @property
    def summarised(self) -> bool:
        """Whether the caller requested reasoning summaries."""
        return self._echo.summarised

    def queued(self) -> None:
        """Writes the queued event, unless the run has started."""
        if not self.started:
            self.status = QUEUED
            self._tell("response.queued")

    def in_progress(self) -> None:
        """Writes the in_progress event."""
        self.started = True
        self.status = IN_PROGRESS
        self._tell("response.in_progress")

    def place(self, id: str) -> tuple[int, str]:
        """Returns the index of the next item, and a unique id for it."""
        index = self._next_index
        self._next_index += 1
        return index, self.unique_item_id(id)

    def unique_item_id(self, id: str) -> str:
        """Returns an id that no other item has: agents may repeat ids, and do when they are restarted."""
        unique, times = id, 1
        while unique in self._ids:
            times += 1
            unique = f"{id}~{times}"
        self._ids.add(unique)
        return unique

    def call_id(self, call_id: str) -> str:
        """Returns the id that clients see for a call; no id is used twice."""
        times = 1
        while (sent := sent_call_id(call_id, times)) in self._ids:
            times += 1
        self._ids.add(sent)
        return sent

    def add(self, item: Item) -> None:
        """Adds an item and writes its first event."""
        self.items.append(item)
        item.begin()

    def discard_output(self) -> None:
        """Discards the output: the run starts again."""
        self._close(INCOMPLETE)
        self.items.clear()

    def finish(
        self,
        status: str,
        response: pb.Response,
        *,
        reason: str | None = None,
    ) -> None:
        """Ends the response with its terminal event."""
        if status == FAILED and response.error.code in _REASON:
            status = INCOMPLETE
        self._close(COMPLETED if status == COMPLETED else INCOMPLETE)
        self.status = status
        if response.HasField("usage"):
            self._usage = response.usage
        if response.HasField("completed_time"):
            self._completed_at = response.completed_time.seconds
        if status == FAILED:
            code = response.error.code
            self._error = {"code": _ERROR_CODE.get(code, code), "message": response.error.message}
        elif status == INCOMPLETE:
            known = _LIMIT_REASON.get(response.used.exceeded) or _REASON.get(response.error.code)
            self._reason = reason or known or response.error.code
        self.ended = True
        self._tell(_TERMINAL_EVENT[status])

    def json(self) -> dict[str, Any]:
        """Returns the Response object in its current state."""
        return {
            **self._constant,
            "status": self.status,
            "completed_at": self._completed_at,
            "error": self._error,
            "incomplete_details": None if self._reason is None else {"reason": self._reason},
            "output": [item.json() for item in self.items],
            "usage": None if self._usage is None else usage_json(self._usage, self._usage_before),
        }

    def _close(self, status: str) -> None:
        for item in self.items:
            if item.open:
                # A tool call without a result may still be complete: agents need not report results.
                item.finish(status if isinstance(item, ToolItem) else INCOMPLETE)

    def _tell(self, type: str) -> None:
        writer = self.writer
        if writer.number > writer.after:
            writer.event(type, {"response": self.json()})
        else:
            writer.number += 1


def usage_json(usage: pb.Usage, before: pb.Usage | None = None) -> dict[str, Any]:
    """Returns token counts in OpenAI's format, without those of the run's earlier responses."""
    less = before or pb.Usage()
    return {
        "input_tokens": usage.input_tokens - less.input_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.cached_input_tokens - less.cached_input_tokens,
            "cache_write_tokens": 0,
        },
        "output_tokens": usage.output_tokens - less.output_tokens,
        "output_tokens_details": {
            "reasoning_tokens": usage.reasoning_output_tokens - less.reasoning_output_tokens
        },
        "total_tokens": usage.total_tokens - less.total_tokens,
    }
