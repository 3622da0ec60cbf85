"""Spans of a run: one for its agent, and one for each tool call in its output, from call to result."""

from collections.abc import Mapping

from opentelemetry.trace import Span

from portico.agent import AgentApp, Message, MessageType, Status
from portico.core.log.live_run import LiveRun
from portico.model.messages import DataContent
from portico.telemetry.tracing import spans

OPEN_CALLS = 256  # most open spans of calls in a run; further calls get none
_CALLS = {
    MessageType.FUNCTION_CALL: "function",
    MessageType.PLUGIN_CALL: "function",
    MessageType.COMPONENT_CALL: "extension",
    MessageType.MCP_CALL: "extension",
}
_OUTPUTS = frozenset(
    (
        MessageType.FUNCTION_CALL_OUTPUT,
        MessageType.PLUGIN_CALL_OUTPUT,
        MessageType.COMPONENT_CALL_OUTPUT,
        MessageType.MCP_CALL_OUTPUT,
    )
)
_FAULTS = (Status.FAILED, Status.REJECTED)


class RunSpans:
    """The spans of one execution; its task becomes a part of them."""

    def __init__(self, run: LiveRun, span: Span) -> None:
        self._run = run
        self._span = span
        self._open: dict[str, Span] = {}

    @classmethod
    def begun(cls, run: LiveRun, app: AgentApp) -> "RunSpans | None":
        """Open the agent's span; None if tracing is off or the run's trace is not sampled.

        Call it in the run's own task.
        """
        if spans.is_excluded():
            return None
        # An attribute costs as much as a token, so there are only the necessary ones.
        attributes: dict[str, str | int] = {
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.provider.name": "portico",
            "gen_ai.agent.name": app.name,
            "gen_ai.conversation.id": run.start.request.session_id,
            "portico.run.id": run.run_id,
        }
        if run.attempt > 1:
            attributes["portico.run.attempt"] = run.attempt
        span = spans.begin(f"invoke_agent {app.name}", attributes)
        if span is None:
            return None
        spans.enter(span)
        return cls(run, span)

    def told(self, message: Message) -> None:
        """Open a span for a tool call, or end it with the call's output."""
        if message.type in _CALLS:
            for call_id, data in _calls(message):
                self._call(call_id, str(data.get("name", "")), _CALLS[message.type])
        elif message.type in _OUTPUTS:
            for call_id, _ in _calls(message):
                spans.end(self._open.pop(call_id, None))

    def end(self) -> None:
        """End the agent's span. Calls without an output get no span: the client executes them."""
        run, span = self._run, self._span
        told: dict[str, str | int] = {"portico.run.status": run.status.value}
        if run.usage is not None:
            told["gen_ai.usage.input_tokens"] = run.usage.input_tokens
            told["gen_ai.usage.output_tokens"] = run.usage.output_tokens
        error = "" if run.error is None or run.status not in _FAULTS else run.error.code
        spans.end(span, error, told)

    def _call(self, call_id: str, name: str, kind: str) -> None:
        if not name or len(self._open) >= OPEN_CALLS:
            return
        attributes = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": name,
            "gen_ai.tool.type": kind,
            "gen_ai.tool.call.id": call_id,
        }
        if (span := spans.begin(f"execute_tool {name}", attributes)) is not None:
            self._open[call_id] = span


def _calls(message: Message) -> list[tuple[str, Mapping[str, object]]]:
    values = [content.data for content in message.content if isinstance(content, DataContent)]
    return [
        (str(data["call_id"]), data) for data in values if isinstance(data, Mapping) and data.get("call_id")
    ]
