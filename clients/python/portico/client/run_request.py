"""Builds the request of a run from plain Python values."""

import uuid
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any, Literal, TypeAlias, TypedDict, Unpack

from portico.client.convert import Json, MessagesLike, enum_number, json_text, to_duration, to_messages
from portico.v1 import events_pb2, query_pb2

BusyPolicy: TypeAlias = (
    query_pb2.SessionBusyPolicy.ValueType | Literal["reject", "enqueue", "interrupt", "parallel"]
)
QueryInput: TypeAlias = MessagesLike | query_pb2.QueryRequest


class QueryOptions(TypedDict, total=False):
    """The options of a query besides its input; see QueryRequest and AgentRequest."""

    agent: str
    session_id: str | None
    user_id: str | None
    parameters: query_pb2.ModelParameters | Mapping[str, Any]
    tools: Iterable[query_pb2.Tool | Mapping[str, Any]]
    extra: Json
    metadata: Json
    request_id: str | None
    background: bool
    # Generated when omitted, so that a broken call can be repeated.
    idempotency_key: str
    if_session_busy: BusyPolicy
    # The maximum duration of the run, in seconds or as a timedelta.
    timeout: float | timedelta
    # The run that this one continues, instead of a session.
    previous_run_id: str | None
    # With previous_run_id: runs in a new session of its own, with the history before that run's input.
    fork_session: bool
    before_message_id: str | None
    ephemeral: bool
    # The run's limits: wall_time (seconds or a timedelta), tool_calls, tokens, child_runs.
    budget: events_pb2.Budget | Mapping[str, Any]
    # The parent run, whose budget this run uses.
    parent_run_id: str | None


def automatic_idempotency_key() -> str:
    """Returns an idempotency key for the client's own retries.

    The prefix tells the core that repeats come within seconds or never, so that it need not look the key
    up in its store.
    """
    return f"auto:{uuid.uuid4().hex}"


def query_request(input: QueryInput, **options: Unpack[QueryOptions]) -> query_pb2.QueryRequest:
    """Builds a request; a QueryRequest is copied and takes no options.

    Raises:
        ValueError: A message or an option is malformed.
    """
    if isinstance(input, query_pb2.QueryRequest):
        if options:
            raise ValueError(f"a QueryRequest takes no options; leave out {', '.join(options)}")
        request = query_pb2.QueryRequest()
        request.CopyFrom(input)
    else:
        request = _build(input, options)
    if not request.idempotency_key:
        request.idempotency_key = automatic_idempotency_key()
    return request


def _build(input: MessagesLike, options: QueryOptions) -> query_pb2.QueryRequest:
    parameters = options.get("parameters")
    if isinstance(parameters, Mapping):
        parameters = query_pb2.ModelParameters(**parameters)
    request = query_pb2.QueryRequest(
        request=query_pb2.AgentRequest(
            agent_name=options.get("agent", ""),
            input=to_messages(input),
            session_id=options.get("session_id") or "",
            user_id=options.get("user_id") or "",
            parameters=parameters,
            tools=[_to_tool(tool) for tool in options.get("tools", ())],
            extra_json=json_text(options.get("extra")),
            metadata_json=json_text(options.get("metadata")),
            request_id=options.get("request_id") or "",
        ),
        background=options.get("background", False),
        idempotency_key=options.get("idempotency_key", ""),
        if_session_busy=enum_number(
            query_pb2.SessionBusyPolicy,
            options.get("if_session_busy", query_pb2.SESSION_BUSY_POLICY_UNSPECIFIED),
            "SESSION_BUSY_POLICY_",
        ),
        previous_run_id=options.get("previous_run_id") or "",
        ephemeral=options.get("ephemeral", False),
        fork_session=options.get("fork_session", False),
        before_message_id=options.get("before_message_id") or "",
        budget=to_budget(options["budget"]) if "budget" in options else None,
        parent_run_id=options.get("parent_run_id") or "",
    )
    if "timeout" in options:
        request.timeout.CopyFrom(to_duration(options["timeout"]))
    return request


def to_budget(budget: events_pb2.Budget | Mapping[str, Any]) -> events_pb2.Budget:
    """Converts a dict with any of wall_time (seconds or a timedelta), tool_calls, tokens and child_runs.

    Raises:
        ValueError: A limit is unknown.
    """
    if isinstance(budget, events_pb2.Budget):
        return budget
    wall_time = budget.get("wall_time")
    limits = {**budget, "wall_time": None if wall_time is None else to_duration(wall_time)}
    return events_pb2.Budget(**limits)


def _to_tool(tool: query_pb2.Tool | Mapping[str, Any]) -> query_pb2.Tool:
    """Converts a dict with name, description, parameters (a JSON Schema) and type."""
    if isinstance(tool, query_pb2.Tool):
        return tool
    return query_pb2.Tool(
        name=tool["name"],
        description=tool.get("description", ""),
        parameters_json=json_text(tool.get("parameters")),
        type=tool.get("type", ""),
    )
