"""What may be asked of the stores: by a caller over the contract, and by an agent through its context."""

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
    """Raises InvalidArgument for words that are missing or too many."""
    if not check_unicode(query, "query").strip():
        raise InvalidArgument("query", "is required")
    if len(query) > QUERY_CHARACTERS:
        raise InvalidArgument("query", f"more than {QUERY_CHARACTERS} characters")
    return query


def check_unicode(text: str, field: str) -> str:
    """A text. Raises InvalidArgument for one that UTF-8 can't carry, and for what is none."""
    if not isinstance(text, str):
        raise InvalidArgument(field, f"must be a text, not {type(text).__name__}")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidArgument(field, "has half a surrogate pair") from None
    return text


def top_k(asked: int) -> int:
    """How many hits. Raises InvalidArgument for a negative number."""
    if asked < 0:
        raise InvalidArgument("top_k", "must not be negative")
    return min(asked or HITS, HITS_MAX)


def check_limit(limit: int) -> int:
    """How many items a list has at most. Raises InvalidArgument."""
    if not 1 <= limit <= LIMIT_MAX:
        raise InvalidArgument("limit", f"must be from 1 to {LIMIT_MAX}")
    return limit


def check_count(count: int, field: str) -> None:
    """Of messages in an append. Raises InvalidArgument."""
    if count < 1:
        raise InvalidArgument(field, "at least one message is required")
    if count > MESSAGES:
        raise InvalidArgument(field, f"more than {MESSAGES} messages")


def check_round(round_id: int | None) -> int | None:
    """Raises InvalidArgument."""
    if round_id is not None and not 1 <= round_id <= ROUND_MAX:
        raise InvalidArgument("round_id", f"must be from 1 to {ROUND_MAX}")
    return round_id


def object_text(value: Mapping[str, Any], field: str, characters: int = JSON_CHARACTERS) -> str:
    """A JSON object as text. Raises InvalidArgument for what JSON does not have, such as NaN."""
    try:
        text = orjson.dumps(value).decode()
        if not text.startswith("{"):
            raise InvalidArgument(field, "must be a JSON object")
        if "null" in text:
            json.dumps(value, allow_nan=False, default=_written)  # what is no number became null
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidArgument(field, f"not JSON: {error}") from None
    if len(text) > characters:
        raise InvalidArgument(field, f"more than {characters} characters")
    return text


def _written(value: object) -> Any:
    """What orjson writes and json does not, such as a date."""
    return orjson.loads(orjson.dumps(value))
