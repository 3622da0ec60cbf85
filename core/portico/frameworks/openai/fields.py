"""Reads fields of the objects of OpenAI's SDK, or of the same objects as JSON."""

from collections.abc import Mapping, Sequence
from typing import Any

from portico.agent.context import ReportedError
from portico.model.messages import Usage


def get(value: Any, name: str) -> Any:
    """Returns a field, or None. Reading a missing attribute of a pydantic model takes 10 us."""
    if isinstance(value, dict):
        return value.get(name)
    found = value.__dict__.get(name) if hasattr(value, "__dict__") else None
    if found is None and (extra := getattr(value, "__pydantic_extra__", None)):
        return extra.get(name)
    return found


def many(value: Any, name: str) -> Sequence[Any]:
    return get(value, name) or ()


def as_dict(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else value.model_dump(mode="json", exclude_none=True)


def usage_of(counted: Any) -> Usage:
    """Returns the token usage of either API."""
    heard = get(counted, "input_tokens_details") or get(counted, "prompt_tokens_details")
    spoken = get(counted, "output_tokens_details") or get(counted, "completion_tokens_details")
    return Usage(
        get(counted, "input_tokens") or get(counted, "prompt_tokens") or 0,
        get(counted, "output_tokens") or get(counted, "completion_tokens") or 0,
        get(counted, "total_tokens") or 0,
        get(heard, "cached_tokens") or 0 if heard else 0,
        get(spoken, "reasoning_tokens") or 0 if spoken else 0,
    )


def failure_of(error: Any) -> ReportedError:
    """Returns the error that the model's provider reported."""
    code = get(error, "code") or get(error, "type") or "MODEL_EXECUTION_FAILED"
    return ReportedError(str(get(error, "message") or error), code=str(code))
