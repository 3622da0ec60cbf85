"""Compaction items: a conversation's items as one opaque text, which expands to the same items.

The items are compressed, not summarised, since no model is available here; nothing is lost.
"""

import base64
import binascii
import zlib
from typing import Any

import orjson

from portico.gateways.openai.errors import OpenAiError
from portico.gateways.openai.json_depth import is_deep

_MARK = "portico1."
MAX_BYTES = 16 * 1024 * 1024  # the most bytes that all compactions of one request may expand to


def compact(items: list[dict[str, Any]]) -> str:
    """Returns the opaque text for the items."""
    packed = zlib.compress(orjson.dumps(items), 6)
    return _MARK + base64.b64encode(packed).decode()


def expand(item: dict[str, Any], field: str, limit: int = MAX_BYTES) -> tuple[list[dict[str, Any]], int]:
    """Expands a compaction item.

    Args:
        item: The item.
        field: The item's path in the body, for errors.
        limit: The most bytes to expand to.

    Returns:
        The items, and their size in bytes.

    Raises:
        OpenAiError: The content is not from this server, damaged or too large.
    """
    content = item.get("encrypted_content")
    path = f"{field}.encrypted_content"
    if not isinstance(content, str) or not content.startswith(_MARK):
        raise _refused(path, "is not a compaction of this server")
    try:
        packed = base64.b64decode(content[len(_MARK) :], validate=True)
        reader = zlib.decompressobj()
        text = reader.decompress(packed, limit + 1)
        if len(text) > limit:
            raise _refused(path, f"expands to more than {limit} bytes")
        if not reader.eof:
            raise _refused(path, "is damaged")
        items = orjson.loads(text)
    except (binascii.Error, zlib.error, orjson.JSONDecodeError):
        raise _refused(path, "is damaged") from None
    sound = isinstance(items, list) and not is_deep(items)
    if not sound or not all(isinstance(item, dict) and item.get("type") != "compaction" for item in items):
        raise _refused(path, "is damaged")
    return items, len(text)


def _refused(param: str, problem: str) -> OpenAiError:
    return OpenAiError(f"'{param}' {problem}.", code="invalid_encrypted_content", param=param)
