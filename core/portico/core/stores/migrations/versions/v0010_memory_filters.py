"""Adds keys and expiry of memories, filters by members of any kind, and types of messages."""

import json
import zlib
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0008"

_KEY_IS_SET = sa.text("key <> ''")
_EXPIRES = sa.text("expires_at IS NOT NULL")
_BATCH = 1000
_DEEPEST = 8
_NAME_CHARACTERS = 256
_VALUE_CHARACTERS = 1025

# The protocol's names by the numbers of MessageType. 0 and 1 are the default of the column.
_TYPES = {
    2: "function_call",
    3: "function_call_output",
    4: "plugin_call",
    5: "plugin_call_output",
    6: "component_call",
    7: "component_call_output",
    8: "mcp_list_tools",
    9: "mcp_approval_request",
    10: "mcp_call",
    11: "mcp_approval_response",
    12: "mcp_call_output",
    13: "reasoning",
    14: "heartbeat",
    15: "error",
    16: "a2ui_response",
    17: "a2ui_action",
}
_HEAD_BYTES = 2048  # bytes of a payload to read: they contain its id and then its type


def upgrade() -> None:
    """Add columns and indexes, and fill them by reading all existing memories and messages once."""
    op.add_column("memories", sa.Column("key", sa.String, server_default="", nullable=False))
    op.add_column("memories", sa.Column("updated_at", sa.Double, server_default="0", nullable=False))
    op.add_column("memories", sa.Column("expires_at", sa.Double))
    op.execute("UPDATE memories SET updated_at = created_at")
    op.drop_index("memories_by_age", "memories")
    op.create_index("memories_by_age", "memories", ["updated_at"])
    op.create_index(
        "memories_by_key",
        "memories",
        ["user_id", "key"],
        unique=True,
        sqlite_where=_KEY_IS_SET,
        postgresql_where=_KEY_IS_SET,
    )
    op.create_index(
        "memories_by_expiry", "memories", ["expires_at"], sqlite_where=_EXPIRES, postgresql_where=_EXPIRES
    )
    _members()
    op.add_column("messages", sa.Column("type", sa.String, server_default="message", nullable=False))
    _types()


def _members() -> None:
    op.drop_table("memory_members")
    members = op.create_table(
        "memory_members",
        sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("text", sa.Text().with_variant(sa.Text(collation="C"), "postgresql")),
        sa.Column("number_value", sa.Double),
        sqlite_with_rowid=False,
    )
    for rows in _batches("number", "memories", "metadata", "metadata <> ''"):
        found = [
            {"number": number, "name": _name(path), "kind": kind, "text": text, "number_value": value}
            for number, metadata in rows
            for path, kind, text, value in _within(
                json.loads(metadata, parse_int=_Number, parse_float=_Number), ()
            )
        ]
        op.bulk_insert(members, found)


class _Number(str):
    pass


def _within(
    value: dict[str, object], path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], str, str | None, float | None]]:
    for name, member in value.items():
        if len(name) > _NAME_CHARACTERS:
            continue
        place = (*path, name)
        if isinstance(member, _Number):
            yield place, "number", str(member[:_VALUE_CHARACTERS]), float(member)
        elif isinstance(member, str):
            yield place, "text", member[:_VALUE_CHARACTERS], None
        elif isinstance(member, bool):
            yield place, "boolean", "true" if member else "false", None
        elif member is None:
            yield place, "null", None, None
        elif isinstance(member, dict):
            yield place, "object", None, None
            if len(place) < _DEEPEST:
                yield from _within(member, place)
        else:
            yield place, "array", None, None


def _name(path: tuple[str, ...]) -> str:
    return json.dumps(path, ensure_ascii=False, separators=(",", ":"))


def _types() -> None:
    change = sa.text("UPDATE messages SET type = :type WHERE position = :position")
    head = f"substr(payload, 1, {_HEAD_BYTES})"
    for rows in _batches("position", "messages", head):
        changes = [
            {"position": position, "type": _TYPES[number]}
            for position, payload in rows
            if (number := _type(_plain(payload))) in _TYPES
        ]
        if changes:
            op.get_bind().execute(change, changes)


def _plain(payload: bytes | None) -> bytes:
    payload = payload or b""  # SQLite's substr() returns NULL for an empty value
    mark, rest = payload[:1], payload[1:]
    if mark == b"\x01":
        return zlib.decompressobj().decompress(rest, _HEAD_BYTES)
    return rest if mark == b"\x03" else payload


def _type(message: bytes) -> int:
    """Return the second field of an encoded message, a small number, which follows a text field."""
    place = 0
    if message[:1] == b"\x0a":
        length, place = _varint(message, 1)
        place += length
    return message[place + 1] if message[place : place + 1] == b"\x10" and place + 1 < len(message) else 0


def _varint(data: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while place < len(data):
        value |= (data[place] & 0x7F) << shift
        place += 1
        if data[place - 1] < 0x80:
            break
        shift += 7
    return value, place


def _batches(key: str, table: str, column: str, where: str = "true") -> Iterator[list[tuple[int, Any]]]:
    query = sa.text(
        f"SELECT {key}, {column} FROM {table}"  # noqa: S608 - the names are ours
        f" WHERE {key} > :after AND {where} ORDER BY {key} LIMIT {_BATCH}"
    )
    after = 0
    while rows := op.get_bind().execute(query, {"after": after}).fetchall():
        yield [(row[0], row[1]) for row in rows]
        after = rows[-1][0]
