"""Who did what to what: a line of JSON for each call, without anything that was said in it.

The lines go to the logger `portico.audit`, which is silent unless the core was given a file for them.
"""

import logging
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import orjson
from google.protobuf.message import Message

from portico.core.errors import PorticoError
from portico.core.services.caller import who_calls
from portico.telemetry.logs import known_ids

log = logging.getLogger("portico.audit")
log.setLevel(logging.WARNING)

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

# Gateways' own, every few seconds, and nobody's doing.
_MACHINERY = ("AckPush", "ClaimPushes", "GetCaller")


def wanted() -> bool:
    """Whether anybody reads it."""
    return log.isEnabledFor(logging.INFO)


def action(method: str) -> str:
    """create, read, cancel, delete or change."""
    return next((word for word, beginnings in _ACTIONS.items() if method.startswith(beginnings)), "change")


def code_of(error: BaseException) -> str:
    """The name of the status that the error becomes."""
    if isinstance(error, PorticoError):
        return error.code
    return "INTERNAL" if isinstance(error, Exception) else "CANCELLED"


def note(method: str, request: object, answer: object = None, *, code: str = "OK", run_id: str = "") -> None:
    """A call of a method, by its name or its path, has come so far: to its answer, or its stream's begin."""
    if not wanted() or (name := method.rpartition("/")[2]) in _MACHINERY:
        return
    who = who_calls()
    told = {
        "time": datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="milliseconds"),
        "action": action(name),
        "method": name,
        "outcome": code,
        # Without auth nobody knows who it was; user_id, if there is one, is what the caller said.
        "caller": None if who is None or who.believed else {"tenant": who.tenant, "user": who.user},
        **{key: value for key, value in known_ids().items() if key in ("request_id", "trace_id")},
    }
    if run_id:
        told["run_id"] = run_id
    parts = [request] if action(name) == "read" else [request, answer]
    for part in parts:
        if isinstance(part, Message):
            for key, value in _named(part, _DEEP):
                told.setdefault(key, value)
    log.info("%s", orjson.dumps(told).decode())


def _named(message: Message, deep: int) -> Iterator[tuple[str, str]]:
    for field, value in message.ListFields():
        if isinstance(value, str):
            if field.name in _NAMES:
                yield field.name, value[:_CHARACTERS]
            elif field.name == "id" and message.DESCRIPTOR.name == "Response":
                yield "run_id", value
        elif isinstance(value, Message) and deep:
            yield from _named(value, deep - 1)
