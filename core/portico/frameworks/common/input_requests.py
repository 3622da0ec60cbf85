"""Converts a framework's request for human input to a question of the agent protocol."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from portico.agent.context import Context, InputRequest
from portico.frameworks.common.conversation_turns import answer_value
from portico.model.messages import Message

_WORDS = ("prompt", "question", "message", "description")


def question_of(context: Context, value: Any, schema: Mapping[str, Any] | None = None) -> InputRequest:
    """Asks a question: a str is the question itself.

    For an object, its prompt, question, message or description comes first, then the whole object as JSON;
    its schema describes the answer.
    """
    if isinstance(value, str):
        return context.input_required(value, schema=schema)
    prompt = json.dumps(value, ensure_ascii=False, default=str)
    if isinstance(value, Mapping):
        words = next((value[name] for name in _WORDS if isinstance(value.get(name), str)), "")
        prompt = words if set(value) <= {*_WORDS, "schema"} and words else f"{words}\n{prompt}".strip()
        if schema is None and isinstance(value.get("schema"), Mapping):
            schema = value["schema"]
    return context.input_required(prompt, schema=schema)


_APPROVAL = {
    "type": "object",
    "properties": {"approve": {"type": "boolean"}, "reason": {"type": "string"}},
    "required": ["approve"],
}
_YES = frozenset(("y", "yes", "ok", "okay", "true", "approve", "approved", "allow", "1"))


def approval_of(context: Context, name: str, arguments: str) -> InputRequest:
    """Asks whether this tool call is permitted. The answer is data with `approve`, or a word such as yes."""
    return context.input_required(f"May {name} be called with {arguments or '{}'}?", schema=_APPROVAL)


def approved(answer: Sequence[Message]) -> bool:
    """Returns whether the answer is an explicit yes."""
    value = answer_value(answer)
    if isinstance(value, Mapping):
        return value.get("approve") is True
    return str(value).strip().rstrip(".!").lower() in _YES
