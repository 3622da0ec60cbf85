"""The scripted model's replies in the format of DashScope's text generation."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from uuid import uuid4

if TYPE_CHECKING:
    from support.model import Reply


def generations(reply: "Reply") -> Iterator[dict[str, Any]]:
    """Yields increments, as with incremental_output; the last one has the usage."""
    id = uuid4().hex

    def piece(message: dict[str, Any], finish: str = "null") -> dict[str, Any]:
        whole = {"role": "assistant", "content": "", **message}
        return {
            "output": {"choices": [{"message": whole, "finish_reason": finish}]},
            "usage": _usage(reply),
            "request_id": id,
        }

    for thought in reply.thoughts:
        yield piece({"reasoning_content": thought})
    for word in reply.words:
        yield piece({"content": word})
    for index, call in enumerate(reply.calls):
        head = {"index": index, "id": call.id, "type": "function"}
        yield piece({"tool_calls": [{**head, "function": {"name": call.name, "arguments": ""}}]})
        for part in call.arguments:
            yield piece({"tool_calls": [{**head, "id": "", "function": {"name": "", "arguments": part}}]})
    yield piece({}, "tool_calls" if reply.calls else "stop")


def generation(reply: "Reply") -> dict[str, Any]:
    """Returns the complete reply."""
    calls = [
        {
            "index": index,
            "id": call.id,
            "type": "function",
            "function": {"name": call.name, "arguments": "".join(call.arguments)},
        }
        for index, call in enumerate(reply.calls)
    ]
    message: dict[str, Any] = {"role": "assistant", "content": "".join(reply.words)}
    message |= {"tool_calls": calls} if calls else {}
    choice = {"message": message, "finish_reason": "tool_calls" if calls else "stop"}
    return {"output": {"choices": [choice]}, "usage": _usage(reply), "request_id": uuid4().hex}


def _usage(reply: "Reply") -> dict[str, int]:
    told = reply.usage
    return {
        "input_tokens": told["prompt_tokens"],
        "output_tokens": told["completion_tokens"],
        "total_tokens": told["total_tokens"],
    }
