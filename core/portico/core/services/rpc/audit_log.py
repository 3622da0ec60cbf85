"""Audit log: one JSON line per call with caller, action and ids, without the call's content."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple

import orjson
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from portico.core.errors import DomainError
from portico.core.services.rpc.client_address import current_client_address
from portico.core.services.rpc.current_principal import ANONYMOUS, current_principal_or_none
from portico.core.services.rpc.unauthenticated_audit import UnauthenticatedCallLog
from portico.model.identity import Principal
from portico.telemetry.log.log_setup import known_ids

# Fields with ids, which a line may contain. (An API key's id is one; its secret is a different field.)
_NAMES = frozenset(
    (
        *("agent_name", "config_id", "key_id", "memory_id", "message_id", "run_id", "previous_run_id"),
        *("sandbox_id", "session_id", "snapshot_id", "tenant", "user_id"),
    )
)
_DEEP = 3
_CHARACTERS = 256
# Action by the first word of a method's name; all other methods are "change".
_ACTIONS = {
    "create": ("Add", "Create", "Fork", "Query", "Start"),
    "read": ("Get", "List", "Read", "Search", "Stat", "Watch"),
    "cancel": ("Cancel", "Interrupt"),
    "delete": ("Delete", "Forget", "Remove", "Revoke"),
}

_write: Callable[[bytes], None] | None = None
_strangers: UnauthenticatedCallLog | None = None


class CallIdentity(NamedTuple):
    """Principal and metadata of a multiplexed stream."""

    who: Principal | None
    metadata: Mapping[str, str]


@contextmanager
def write_audit_to(write: Callable[[bytes], None]) -> Iterator[None]:
    """Turns the audit log on: within the context, `write` receives every line."""
    global _write, _strangers
    _write, _strangers = write, UnauthenticatedCallLog(write)
    try:
        yield
    finally:
        _strangers.end()
        _write = _strangers = None


@lru_cache
def audit_action(method: str) -> str:
    """The action that a method performs: create, read, cancel, delete or change."""
    return next((word for word, beginnings in _ACTIONS.items() if method.startswith(beginnings)), "change")


def status_code_name(error: BaseException) -> str:
    """Name of the gRPC status for an error."""
    if isinstance(error, DomainError):
        return error.code
    return "INTERNAL" if isinstance(error, Exception) else "CANCELLED"


def record_call(
    method: str,
    request: object,
    answer: object = None,
    *,
    code: str = "OK",
    run_id: str = "",
    by: CallIdentity | None = None,
) -> None:
    """Writes the line of a call, once it is answered or its stream begins.

    Args:
        method: The method's name or path.
        request: The request message; its ids go into the line.
        answer: The response message; its ids go into the line unless the method only reads.
        code: Name of the gRPC status.
        run_id: The run that the call started or reads, if known.
        by: Principal and metadata of a multiplexed stream; by default those of the current call.
    """
    if _write is None or _strangers is None:
        return
    name = method.rpartition("/")[2]
    who, where = (
        (current_principal_or_none(), current_client_address())
        if by is None
        else (by.who, current_client_address(by.metadata))
    )
    stranger = who is None or who is ANONYMOUS
    known, what = known_ids(), audit_action(name)
    told: dict[str, object] = {
        "time": datetime.now(UTC),
        "action": what,
        "method": name,
        "outcome": code,
        # With auth off the caller is unknown; a user_id in the line is then what the request claims.
        "caller": None if who is None or stranger or who.trusts_request_user else _names_of(who),
        "address": where.address,
    }
    if where.via:
        told["via"] = where.via
    for key in ("request_id", "trace_id"):
        if key in known:
            told[key] = known[key]
    if run_id:
        told["run_id"] = run_id
    if isinstance(request, Message):
        _name(told, request)
    if what != "read" and isinstance(answer, Message):
        _name(told, answer)
    if stranger:
        _strangers.note(told)
    else:
        _write(orjson.dumps(told))


def _names_of(who: Principal) -> dict[str, str]:
    return {"tenant": who.tenant, "user": who.user}


def _name(told: dict[str, object], message: Message) -> None:
    """Adds a message's ids to a line; of two fields with the same key the earlier one counts."""
    for path, key in _names_in(message.DESCRIPTOR):
        value = _value(message, path)
        if value and key not in told:
            told[key] = value[:_CHARACTERS]


def _value(message: Message, path: tuple[str, ...]) -> str:
    for name in path[:-1]:
        if not message.HasField(name):
            return ""
        message = getattr(message, name)
    value: str = getattr(message, path[-1])
    return value


@lru_cache
def _names_in(descriptor: Descriptor) -> tuple[tuple[tuple[str, ...], str], ...]:
    """Paths of the id fields in a message type, with their keys in the line. Cached: a search of the message
    costs as much as writing the line."""
    return tuple(_find(descriptor, (), _DEEP))


def _find(descriptor: Descriptor, above: tuple[str, ...], deep: int) -> Iterator[tuple[tuple[str, ...], str]]:
    for field in sorted(descriptor.fields, key=lambda field: field.number):
        path = (*above, field.name)
        if field.is_repeated:
            continue
        if field.type == FieldDescriptor.TYPE_STRING:
            if field.name in _NAMES:
                yield path, field.name
            elif field.name == "id" and descriptor.name == "Response":
                yield path, "run_id"
        elif field.message_type is not None and deep:
            yield from _find(field.message_type, path, deep - 1)
