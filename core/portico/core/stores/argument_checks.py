"""Checks of arguments of the stores, for callers of the contract and for agents' contexts."""

import json
from collections.abc import Mapping
from typing import Any

import orjson

from portico.core.errors import InvalidArgument

JSON_CHARACTERS = 1024 * 1024
STATE_CHARACTERS = 4 * 1024 * 1024
QUERY_CHARACTERS = 1024
MESSAGES = 1000
ROUND_MAX = 2**53
HITS, HITS_MAX = 10, 100
LIMIT_MAX = 10_000


def check_query(query: str) -> str:
    """Return the query. Raises InvalidArgument if it is empty or too long."""
    if not check_unicode(query, "query").strip():
        raise InvalidArgument("query", "is required")
    if len(query) > QUERY_CHARACTERS:
        raise InvalidArgument("query", f"more than {QUERY_CHARACTERS} characters")
    return query


def check_unicode(text: str, field: str) -> str:
    """Return the text. Raises InvalidArgument if it is not a str or cannot be encoded as UTF-8."""
    if not isinstance(text, str):
        raise InvalidArgument(field, f"must be a text, not {type(text).__name__}")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidArgument(field, "contains an unpaired surrogate") from None
    return text


def check_top_k(asked: int) -> int:
    """The number of hits for a requested number; 0 means the default. Raises InvalidArgument if it is
    negative.
    """
    if asked < 0:
        raise InvalidArgument("top_k", "must not be negative")
    return min(asked or HITS, HITS_MAX)


def check_limit(limit: int) -> int:
    """Return the limit of a list. Raises InvalidArgument if it is out of range."""
    if not 1 <= limit <= LIMIT_MAX:
        raise InvalidArgument("limit", f"must be from 1 to {LIMIT_MAX}")
    return limit


def check_count(count: int, field: str) -> None:
    """Check the number of messages in an append. Raises InvalidArgument."""
    if count < 1:
        raise InvalidArgument(field, "at least one message is required")
    if count > MESSAGES:
        raise InvalidArgument(field, f"more than {MESSAGES} messages")


def check_round(round_id: int | None) -> int | None:
    """Return the number of a state's round. Raises InvalidArgument if it is out of range."""
    if round_id is not None and not 1 <= round_id <= ROUND_MAX:
        raise InvalidArgument("round_id", f"must be from 1 to {ROUND_MAX}")
    return round_id


def encode_object(value: Mapping[str, Any], field: str, characters: int = JSON_CHARACTERS) -> str:
    """Encode a JSON object. Raises InvalidArgument for values that JSON does not have, such as NaN."""
    try:
        text = orjson.dumps(value).decode()
        if not text.startswith("{"):
            raise InvalidArgument(field, "must be a JSON object")
        if "null" in text:
            json.dumps(value, allow_nan=False, default=_written)  # orjson writes NaN and infinities as null
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidArgument(field, f"not JSON: {error}") from None
    if len(text) > characters:
        raise InvalidArgument(field, f"more than {characters} characters")
    return text


def _written(value: object) -> Any:
    """Convert a value that orjson writes and json does not, such as a date."""
    return orjson.loads(orjson.dumps(value))
