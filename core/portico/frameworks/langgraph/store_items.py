"""Converts items of a LangGraph store to memories (key, text, metadata) and back."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any

from langgraph.store.base import Item, PutOp, get_text_at_path

from portico.agent.context import Remembered

NAMESPACE = "langgraph_namespace"  # the member with an item's namespace as text
KEPT_BY, PLACE = "kept_by", "place"  # members that identify items of earlier versions
KEY_CHARACTERS = 1024  # of a memory
VALUE_CHARACTERS = 1024  # of a text in a filter's condition
TEXT_BYTES = 64 * 1024  # of a memory
_FRAMEWORK = "langgraph"
_NO_WORDS = "-"  # a memory must have a text; no search matches this one
_SECONDS = 60.0  # LangGraph's unit for a time to live


def namespace_text(namespace: Iterable[str]) -> str:
    """Returns a text that begins with the text of each parent namespace, and no other: labels are JSON."""
    return "".join(f"{json.dumps(label, ensure_ascii=False)}," for label in namespace)


def memory_key(namespace: Sequence[str], key: str) -> str:
    """Returns a unique key for an item; a key that is too long is shortened by a digest."""
    place = place_text(namespace, key)
    if len(place) + len(_FRAMEWORK) < KEY_CHARACTERS:
        return f"{_FRAMEWORK}:{place}"
    return f"{_FRAMEWORK}#{blake2b(place.encode(), digest_size=32).hexdigest()}"


def place_text(namespace: Sequence[str], key: str) -> str:
    return json.dumps([*namespace, key], ensure_ascii=False)


def searched_text(op: PutOp) -> str:
    """Returns the text by which a search finds the item: all its texts, those of the fields in `index`, or
    none.
    """
    assert op.value is not None
    if op.index is False:
        return _NO_WORDS
    if op.index is None:
        text = "\n".join(_words(op.value)) or op.key
    else:
        text = "\n".join(part for path in op.index for part in get_text_at_path(op.value, path))
    cut = text.encode(errors="surrogatepass")[:TEXT_BYTES].decode(errors="ignore")
    return cut if cut.strip() else _NO_WORDS


def metadata_of(op: PutOp, now: float) -> dict[str, Any]:
    return {
        NAMESPACE: namespace_text(op.namespace),
        "namespace": list(op.namespace),
        "key": op.key,
        "value": op.value,
        "updated": datetime.fromtimestamp(now, UTC).isoformat(),
        "ttl": op.ttl,
    }


def expiry(ttl: float | None, now: float) -> float | None:
    """Returns the time after the given number of minutes."""
    return None if ttl is None else now + ttl * _SECONDS


def is_item(kept: Remembered) -> bool:
    """Returns whether a memory is an item, and not an unrelated memory with similar members."""
    match kept.metadata:
        case {"namespace": [*labels], "key": str(key), "value": dict(), "updated": str()}:
            if not all(isinstance(label, str) for label in labels):
                return False
            if is_old(kept):
                return {PLACE, "created"} <= kept.metadata.keys()
            return kept.key == memory_key(labels, key)
    return False


def item_of(kept: Remembered) -> Item:
    about = kept.metadata
    return Item(
        namespace=tuple(about["namespace"]),
        key=about["key"],
        value=about["value"],
        created_at=created(kept),
        updated_at=datetime.fromisoformat(about["updated"]),
    )


def created(kept: Remembered) -> datetime:
    if is_old(kept):
        return datetime.fromisoformat(kept.metadata["created"])
    return datetime.fromtimestamp(kept.created_at, UTC)


def is_old(kept: Remembered) -> bool:
    """Returns whether an earlier version stored the memory without a key: an item may have several."""
    return kept.metadata.get(KEPT_BY) == _FRAMEWORK


def kept_by() -> dict[str, Any]:
    """Returns the condition that items of earlier versions fulfil."""
    return {"path": KEPT_BY, "operator": "eq", "value": _FRAMEWORK}


def _words(value: Any) -> Iterator[str]:
    """Yields all texts in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _words(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _words(part)
