"""Compaction items: a conversation's items in an opaque text, which expands back into them.

Nothing is summed up, for no model is at hand here, and so nothing is lost: the items are compressed.
"""

import base64
import binascii
import zlib
from typing import Any

import orjson

from portico.gateways.openai.errors import OpenAiError
from portico.gateways.openai.json_depth import is_deep

_MARK = "portico1."
MAX_BYTES = 16 * 1024 * 1024  # of what the compactions of one request expand to


def compact(items: list[dict[str, Any]]) -> str:
    """The opaque text."""
    packed = zlib.compress(orjson.dumps(items), 6)
    return _MARK + base64.b64encode(packed).decode()


def expand(item: dict[str, Any], field: str, limit: int = MAX_BYTES) -> tuple[list[dict[str, Any]], int]:
    """The items of a compaction item, and their size. Raises OpenAiError for what did not come from here."""
    content = item.get("encrypted_content")
    path = f"{field}.encrypted_content"
    if not isinstance(content, str) or not content.startswith(_MARK):
        raise _refused(path, "is no compaction of this server")
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
