"""Merges the items of a stream: texts are joined, OpenAI's chunks merged, other items listed."""

from collections.abc import Sequence
from typing import Any


def get_finish_reason(response: Any) -> str | None:
    """The finish reason of an OpenAI chunk, if it is the last of its choice."""
    choices = getattr(response, "choices", None)
    return getattr(choices[0], "finish_reason", None) if choices else None


def merge_incremental_chunk(responses: Sequence[Any]) -> Any:
    """Merges all items of a stream into one value; None if there are none."""
    if not responses:
        return None
    if all(isinstance(one, str) for one in responses):
        return "".join(responses)
    if all(hasattr(one, "choices") and hasattr(one, "model_dump") for one in responses):
        return _merged_chunks([one.model_dump(exclude_none=True) for one in responses])
    return list(responses)


def _merged_chunks(chunks: list[dict[str, Any]]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    choices: dict[int, dict[str, Any]] = {}
    for chunk in chunks:
        merged.update({name: value for name, value in chunk.items() if name != "choices"})
        for choice in chunk.get("choices", ()):
            index = choice.get("index", 0)
            whole = choices.setdefault(index, {"index": index, "delta": {}})
            whole.update({name: value for name, value in choice.items() if name != "delta"})
            _add(whole["delta"], choice.get("delta") or {})
    return {**merged, "choices": [choices[index] for index in sorted(choices)]}


def _add(whole: dict[str, Any], delta: dict[str, Any]) -> None:
    for name, value in delta.items():
        if name == "tool_calls":
            calls = whole.setdefault(name, [])
            for call in value:
                place = next((one for one in calls if one.get("index") == call.get("index")), None)
                if place is None:
                    calls.append({**call, "function": dict(call.get("function") or {})})
                else:
                    _add(place["function"], call.get("function") or {})
        elif isinstance(value, str) and name not in ("role", "name", "type"):
            whole[name] = whole.get(name, "") + value
        else:
            whole[name] = value
