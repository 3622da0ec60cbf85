"""Who did what to what: a line of JSON for each call, without anything that was said in it."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple

import orjson
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from portico.core.errors import PorticoError
from portico.core.services.rpc.client_address import origin
from portico.core.services.rpc.current_principal import ANONYMOUS, who_calls
from portico.core.services.rpc.unauthenticated_audit import Strangers
from portico.model.identity import Principal
from portico.telemetry.logs import known_ids

# The fields whose values name things. A key's id does; its secret is another field.
_NAMES = frozenset(
    (
        *("agent_name", "config_id", "key_id", "memory_id", "message_id", "run_id", "previous_run_id"),
        *("sandbox_id", "session_id", "snapshot_id", "tenant", "user_id"),
    )
)
_DEEP = 3
_CHARACTERS = 256
# By the first word of a method's name; what is not here changes something.
_ACTIONS = {
    "create": ("Add", "Create", "Fork", "Query", "Start"),
    "read": ("Get", "List", "Read", "Search", "Stat", "Watch"),
    "cancel": ("Cancel", "Interrupt"),
    "delete": ("Delete", "Forget", "Remove", "Revoke"),
}

_write: Callable[[bytes], None] | None = None
_strangers: Strangers | None = None


class By(NamedTuple):
    """Who asks for a stream that shares a call with others, and the stream's metadata."""

    who: Principal | None
    metadata: Mapping[str, str]


@contextmanager
def told_to(write: Callable[[bytes], None]) -> Iterator[None]:
    """Within it, every line goes there; nobody makes any without it."""
    global _write, _strangers
    _write, _strangers = write, Strangers(write)
    try:
        yield
    finally:
        _strangers.end()
        _write = _strangers = None


@lru_cache
def action(method: str) -> str:
    """create, read, cancel, delete or change."""
    return next((word for word, beginnings in _ACTIONS.items() if method.startswith(beginnings)), "change")


def code_of(error: BaseException) -> str:
    """The name of the status that the error becomes."""
    if isinstance(error, PorticoError):
        return error.code
    return "INTERNAL" if isinstance(error, Exception) else "CANCELLED"


def note(
    method: str,
    request: object,
    answer: object = None,
    *,
    code: str = "OK",
    run_id: str = "",
    by: By | None = None,
) -> None:
    """A call of a method, by its name or its path, has come so far: to its answer, or its stream's begin."""
    if _write is None or _strangers is None:
        return
    name = method.rpartition("/")[2]
    who, where = (who_calls(), origin()) if by is None else (by.who, origin(by.metadata))
    stranger = who is None or who is ANONYMOUS
    known, what = known_ids(), action(name)
    told: dict[str, object] = {
        "time": datetime.now(UTC),
        "action": what,
        "method": name,
        "outcome": code,
        # Without auth nobody knows who it was; user_id, if there is one, is what the caller said.
        "caller": None if who is None or stranger or who.believed else _names_of(who),
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
    """Add the names of what a message is about; of two, that of the earlier field."""
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
    """Where in messages of a kind names are, and as what they are told. Found once: to look through a message
    costs as much as to write the line."""
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
