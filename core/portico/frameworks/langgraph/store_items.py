"""An item of a LangGraph store as a memory: its key, its words, its metadata; and the same read back."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any

from langgraph.store.base import Item, PutOp, get_text_at_path

from portico.agent.context import Remembered

NAMESPACE = "langgraph_namespace"  # the member that has an item's namespace as text
KEPT_BY, PLACE = "kept_by", "place"  # members by which items of earlier versions are found
KEY_CHARACTERS = 1024  # of a memory
VALUE_CHARACTERS = 1024  # of a text that a filter compares with
TEXT_BYTES = 64 * 1024  # of a memory
_FRAMEWORK = "langgraph"
_NO_WORDS = "-"  # a memory has a text; no search finds this one
_SECONDS = 60.0  # of LangGraph's unit for a time to live


def namespace_text(namespace: Iterable[str]) -> str:
    """Begins with the text of every namespace above it, and of no other: each label is JSON."""
    return "".join(f"{json.dumps(label, ensure_ascii=False)}," for label in namespace)


def memory_key(namespace: Sequence[str], key: str) -> str:
    """One for each item: what a key has no room for is a digest of it."""
    place = place_text(namespace, key)
    if len(place) + len(_FRAMEWORK) < KEY_CHARACTERS:
        return f"{_FRAMEWORK}:{place}"
    return f"{_FRAMEWORK}#{blake2b(place.encode(), digest_size=32).hexdigest()}"


def place_text(namespace: Sequence[str], key: str) -> str:
    return json.dumps([*namespace, key], ensure_ascii=False)


def searched_text(op: PutOp) -> str:
    """What a search finds the item by: all its texts, those of the fields in `index`, or nothing."""
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
    """The end of so many minutes."""
    return None if ttl is None else now + ttl * _SECONDS


def is_item(kept: Remembered) -> bool:
    """Whether a memory is an item, and not one that merely has such members."""
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
    """Whether an earlier version has kept it, under no key: there may be several of one item."""
    return kept.metadata.get(KEPT_BY) == _FRAMEWORK


def kept_by() -> dict[str, Any]:
    """The condition that items of earlier versions fulfil."""
    return {"path": KEPT_BY, "operator": "eq", "value": _FRAMEWORK}


def _words(value: Any) -> Iterator[str]:
    """All texts in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _words(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _words(part)
