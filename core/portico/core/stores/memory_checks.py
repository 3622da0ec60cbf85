"""Checks of memories, added by callers or by agents."""

import time
from collections.abc import Sequence
from dataclasses import replace

from portico.core.errors import InvalidArgument
from portico.core.stores.argument_checks import check_unicode
from portico.core.stores.ports.json_fields import flatten_fields
from portico.core.stores.ports.stores import MemoryRecord
from portico.model.ids import new_id

TEXT_BYTES = 64 * 1024
KEY_CHARACTERS = 1024
MAX_METADATA_FIELDS = 1000
MAX_CLOCK_SKEW_SECONDS = 300.0  # tolerance for a caller's clock that is ahead
_FIRST_MOMENT, _LAST_MOMENT = -62_135_596_800.0, 253_402_300_800.0  # range of google.protobuf.Timestamp


def new_memory(
    owner: str,
    text: str,
    *,
    session_id: str = "",
    metadata: str = "",
    key: str = "",
    created_at: float | None = None,
    expires_at: float | None = None,
    field: str = "",
) -> MemoryRecord:
    """Make a memory with a new id.

    Args:
        owner: The user with its tenant.
        text: The text.
        session_id: The session it belongs to, if any.
        metadata: A JSON object, or empty.
        key: The caller's key, if any.
        created_at: Seconds since the epoch; now by default.
        expires_at: Seconds since the epoch; never by default.
        field: Prefix of the fields' names in errors.

    Raises:
        InvalidArgument: A field is invalid.
    """
    now = time.time()
    check_text(text, f"{field}text")
    check_members(metadata, f"{field}metadata")
    check_key(key, f"{field}key")
    if created_at is not None:
        check_time(created_at, f"{field}created_time")
        if created_at > now + MAX_CLOCK_SKEW_SECONDS:
            raise InvalidArgument(f"{field}created_time", "must not be in the future")
    check_expiry(expires_at, f"{field}expire_time")
    return MemoryRecord(
        memory_id=new_id("mem_"),
        user_id=owner,
        session_id=session_id,
        text=text,
        created_at=now if created_at is None else float(created_at),
        metadata=metadata,
        key=key,
        updated_at=now,
        expires_at=None if expires_at is None else float(expires_at),
    )


def ordered_by_creation(memories: Sequence[MemoryRecord]) -> Sequence[MemoryRecord]:
    """Give new memories ids that sort in the given order, by which lists order memories of the same time."""
    ids = sorted(memory.memory_id for memory in memories)
    return [replace(memory, memory_id=id) for memory, id in zip(memories, ids, strict=True)]


def check_text(text: str, field: str = "text") -> None:
    """Raise InvalidArgument if the text is empty or too long."""
    if not check_unicode(text, field).strip():
        raise InvalidArgument(field, "is required")
    if len(text.encode()) > TEXT_BYTES:
        raise InvalidArgument(field, f"more than {TEXT_BYTES} bytes")


def check_members(metadata: str, field: str = "metadata") -> None:
    """Raise InvalidArgument if the JSON object has too many members."""
    if len(flatten_fields(metadata)) > MAX_METADATA_FIELDS:
        raise InvalidArgument(field, f"more than {MAX_METADATA_FIELDS} members")


def check_key(key: str, field: str = "key") -> None:
    """Raise InvalidArgument if the key is too long or has a NUL."""
    if len(check_unicode(key, field)) > KEY_CHARACTERS:
        raise InvalidArgument(field, f"more than {KEY_CHARACTERS} characters")
    if "\0" in key:
        raise InvalidArgument(field, "must not contain a NUL character")


def check_expiry(moment: float | None, field: str = "expire_time") -> None:
    """Raise InvalidArgument if the time is past."""
    if moment is not None:
        check_time(moment, field)
        if moment <= time.time():
            raise InvalidArgument(field, "must be in the future")


def check_time(moment: float, field: str) -> None:
    """Raise InvalidArgument if the value is not a date in seconds since the epoch."""
    if isinstance(moment, bool) or not isinstance(moment, int | float):
        raise InvalidArgument(field, "must be seconds since the epoch")
    if not _FIRST_MOMENT <= moment < _LAST_MOMENT:
        raise InvalidArgument(field, "must be a time in the years 1 to 9999")
