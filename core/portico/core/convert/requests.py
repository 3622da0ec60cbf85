"""Requests that start a run: checks, defaults, and the stored form."""

import hashlib
from dataclasses import dataclass

from portico.agent.child_runs import ChildRequest
from portico.core.convert.budgets import budget_from_proto, budget_to_proto, check_budget
from portico.core.convert.messages import dump, load_object, message_to_proto, messages_from_proto
from portico.core.errors import InvalidArgument
from portico.core.log.encoding import DIGEST_BYTES, RunRequest
from portico.model.identity import AGENT_PREFIX, TENANT_PREFIX, user_of
from portico.model.ids import new_id
from portico.model.messages import AgentRequest, ModelParameters, Tool
from portico.v1 import query_pb2 as pb

ID_CHARACTERS = 256
INPUT_MESSAGES = 1000
OUTPUT_MODES = 64
TIMEOUT_SECONDS = 7 * 24 * 3600
# Secret members of a tool's raw form, such as an MCP server's.
_TOOL_SECRETS = frozenset(("authorization", "headers"))
_POLICIES = {
    pb.SESSION_BUSY_POLICY_UNSPECIFIED: "enqueue",
    pb.SESSION_BUSY_POLICY_REJECT: "reject",
    pb.SESSION_BUSY_POLICY_ENQUEUE: "enqueue",
    pb.SESSION_BUSY_POLICY_INTERRUPT: "interrupt",
    pb.SESSION_BUSY_POLICY_PARALLEL: "parallel",
}


def check_id(value: str, field: str, *, required: bool = True) -> str:
    """Checks an id that a caller chose. Raises InvalidArgument."""
    if required and not value:
        raise InvalidArgument(field, "is required")
    if len(value) > ID_CHARACTERS:
        raise InvalidArgument(field, f"more than {ID_CHARACTERS} characters")
    if "\0" in value:
        raise InvalidArgument(field, "must not have a NUL character")
    if value.startswith((AGENT_PREFIX, TENANT_PREFIX)) and field.endswith("user_id"):
        raise InvalidArgument(
            field, f"must not begin with {AGENT_PREFIX} or {TENANT_PREFIX}, which are reserved"
        )
    return value


@dataclass(frozen=True, slots=True)
class SessionPlacement:
    """The session of a run that continues another, and whether it is new."""

    owner: str
    session_id: str
    own: bool


def start_request(
    query: pb.QueryRequest,
    *,
    background: bool | None = None,
    place: SessionPlacement | None = None,
    owner: str = "",
) -> RunRequest:
    """Checks a request and fills in its defaults; `owner` is the new run's owner key, if known.

    Raises InvalidArgument.
    """
    request = query.request
    if owner:
        request.user_id = user_of(owner)
    if place is None:
        check_query(query)
    raw = query.SerializeToString(deterministic=True)
    digest = hashlib.blake2b(raw, digest_size=DIGEST_BYTES).digest()
    if background is not None:
        query.background = background
    own = not request.session_id
    if place is not None:
        request.user_id, request.session_id, own = user_of(place.owner), place.session_id, place.own
        owner = place.owner
    if not request.session_id:
        request.session_id = _session_of(query.idempotency_key)
    if not request.user_id:
        request.user_id = request.session_id
    for message in request.input:
        if not message.id:
            message.id = new_id("msg_")
    ephemeral = ("session" if own else "run") if query.ephemeral else ""
    payload = digest + query.SerializeToString()
    return _start(query, payload, owner or request.user_id, ephemeral)


def _session_of(key: str) -> str:
    """Id of a new session. It depends on the idempotency key, if any, so that a repeat has the same session
    and finds its run."""
    if not key:
        return new_id("session_")
    return f"session_{hashlib.blake2b(key.encode(), digest_size=16).hexdigest()}"


def child_request(asked: ChildRequest, parent_run_id: str, parent: RunRequest) -> RunRequest:
    """The request of a child run: it has its parent's owner and retention. Raises InvalidArgument."""
    query = pb.QueryRequest(background=True, ephemeral=bool(parent.ephemeral), parent_run_id=parent_run_id)
    request = query.request
    request.agent_name = asked.agent_name
    request.session_id = asked.session_id
    request.input.extend(message_to_proto(message) for message in asked.input)
    request.metadata_json = dump(asked.metadata)
    if asked.budget is not None:
        budget_to_proto(asked.budget, query.budget)
    return start_request(query, owner=parent.owner)


def load_request(payload: bytes, owner: str) -> RunRequest:
    """Decodes RunRequest.payload."""
    return _start(stored_query(payload), payload, owner)


def stored_query(payload: bytes) -> pb.QueryRequest:
    """The stored request as a message."""
    return pb.QueryRequest.FromString(payload[DIGEST_BYTES:])


def public_request(payload: bytes) -> pb.AgentRequest:
    """The stored request for the run's readers: without the credentials of tools."""
    request = stored_query(payload).request
    for tool in request.tools:
        raw = load_object(tool.raw_json, "raw_json")
        if raw and not _TOOL_SECRETS.isdisjoint(raw):
            tool.raw_json = dump({name: value for name, value in raw.items() if name not in _TOOL_SECRETS})
    return request


def check_query(query: pb.QueryRequest) -> None:
    """Raises InvalidArgument for a request that can't start a run."""
    request = query.request
    check_id(query.previous_run_id, "previous_run_id", required=False)
    check_id(query.before_message_id, "before_message_id", required=False)
    if query.previous_run_id and request.session_id:
        raise InvalidArgument("request.session_id", "must be empty when previous_run_id is set")
    check_id(query.parent_run_id, "parent_run_id", required=False)
    if query.parent_run_id and query.previous_run_id:
        raise InvalidArgument("previous_run_id", "must not be combined with parent_run_id; leave one out")
    for name in ("before_message_id", "fork_session"):
        if getattr(query, name) and not query.previous_run_id:
            raise InvalidArgument(name, "needs a previous_run_id, which is empty")
    if not request.input:
        raise InvalidArgument("request.input", "at least one message is required")
    if len(request.input) > INPUT_MESSAGES:
        raise InvalidArgument("request.input", f"more than {INPUT_MESSAGES} messages")
    for name in ("agent_name", "session_id", "user_id", "request_id"):
        check_id(getattr(request, name), f"request.{name}", required=False)
    if len(request.accepted_output_modes) > OUTPUT_MODES:
        raise InvalidArgument("request.accepted_output_modes", f"more than {OUTPUT_MODES} media types")
    for index, mode in enumerate(request.accepted_output_modes):
        check_id(mode, f"request.accepted_output_modes[{index}]")
    check_id(query.idempotency_key, "idempotency_key", required=False)
    if query.if_session_busy not in _POLICIES:
        raise InvalidArgument("if_session_busy", f"unknown value {query.if_session_busy}")
    if query.HasField("timeout"):
        timeout = query.timeout.seconds + query.timeout.nanos / 1e9
        if not 0 < timeout <= TIMEOUT_SECONDS:
            raise InvalidArgument("timeout", f"must be more than 0 and at most {TIMEOUT_SECONDS} s")
    if query.HasField("budget"):
        check_budget(query.budget, "budget")


def _start(query: pb.QueryRequest, payload: bytes, owner: str, ephemeral: str = "") -> RunRequest:
    request = query.request
    timeout = query.timeout.seconds + query.timeout.nanos / 1e9 if query.HasField("timeout") else None
    agent_request = AgentRequest(
        agent_name=request.agent_name,
        input=messages_from_proto(request.input, "request.input"),
        session_id=request.session_id,
        user_id=request.user_id,
        parameters=_parameters(request.parameters) if request.HasField("parameters") else ModelParameters(),
        tools=[_tool(tool, f"request.tools[{index}]") for index, tool in enumerate(request.tools)],
        extra=load_object(request.extra_json, "request.extra_json"),
        metadata=load_object(request.metadata_json, "request.metadata_json"),
        request_id=request.request_id,
        accepted_output_modes=tuple(request.accepted_output_modes),
    )
    return RunRequest(
        request=agent_request,
        owner=owner,
        metadata_json=request.metadata_json,
        payload=payload,
        background=query.background,
        idempotency_key=query.idempotency_key,
        busy_policy=_POLICIES[query.if_session_busy],
        timeout=timeout,
        ephemeral=ephemeral,
        budget=budget_from_proto(query.budget) if query.HasField("budget") else None,
        parent_run_id=query.parent_run_id,
    )


def _parameters(given: pb.ModelParameters) -> ModelParameters:
    def optional(name: str) -> float | None:
        return getattr(given, name) if given.HasField(name) else None  # type: ignore[arg-type]

    return ModelParameters(
        model=given.model or None,
        top_p=optional("top_p"),
        temperature=optional("temperature"),
        frequency_penalty=optional("frequency_penalty"),
        presence_penalty=optional("presence_penalty"),
        max_tokens=given.max_tokens if given.HasField("max_tokens") else None,
        stop=tuple(given.stop),
        n=given.n if given.HasField("n") else None,
        seed=given.seed if given.HasField("seed") else None,
    )


def _tool(tool: pb.Tool, field: str) -> Tool:
    if not tool.name:
        raise InvalidArgument(f"{field}.name", "is required")
    return Tool(
        tool.name,
        tool.description,
        load_object(tool.parameters_json, f"{field}.parameters_json"),
        tool.type or "function",
        load_object(tool.raw_json, f"{field}.raw_json"),
    )
