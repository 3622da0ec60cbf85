"""The scripted model's replies as events of OpenAI's Responses API."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from uuid import uuid4

if TYPE_CHECKING:
    from support.model import Reply


def response_events(reply: "Reply") -> Iterator[dict[str, Any]]:
    """Yields the events from response.created to response.completed, or to response.failed."""
    number = -1
    unique = uuid4().hex
    output: list[dict[str, Any]] = []

    def event(type: str, **fields: Any) -> dict[str, Any]:
        nonlocal number
        number += 1
        return {"type": type, "sequence_number": number, **fields}

    def response(status: str, **fields: Any) -> dict[str, Any]:
        usage = {
            "input_tokens": 11,
            "output_tokens": reply.usage["completion_tokens"],
            "total_tokens": reply.usage["total_tokens"],
            "input_tokens_details": {"cached_tokens": 3, "cache_write_tokens": 0},
            "output_tokens_details": {"reasoning_tokens": len(reply.thoughts)},
        }
        return {
            "id": f"resp_{unique}",
            "object": "response",
            "created_at": 0,
            "model": "scripted",
            "status": status,
            "output": output,
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
            "error": None,
            "incomplete_details": None,
            "instructions": None,
            "metadata": {},
            "usage": usage if status == "completed" else None,
            **fields,
        }

    yield event("response.created", response=response("in_progress"))
    if reply.thoughts:
        at: dict[str, Any] = {"output_index": 0, "item_id": f"rs_{unique}"}
        part = {"type": "summary_text", "text": "".join(reply.thoughts)}
        item = {"id": f"rs_{unique}", "type": "reasoning", "summary": []}
        yield event("response.output_item.added", output_index=0, item=item)
        empty = {"type": "summary_text", "text": ""}
        yield event("response.reasoning_summary_part.added", **at, summary_index=0, part=empty)
        for thought in reply.thoughts:
            yield event("response.reasoning_summary_text.delta", **at, summary_index=0, delta=thought)
        yield event("response.reasoning_summary_text.done", **at, summary_index=0, text=part["text"])
        yield event("response.reasoning_summary_part.done", **at, summary_index=0, part=part)
        output.append({**item, "summary": [part]})
        yield event("response.output_item.done", output_index=0, item=output[-1])
    if reply.words:
        index = len(output)
        at = {"output_index": index, "item_id": f"msg_{unique}"}
        words = "".join(reply.words)
        spoken: dict[str, Any] = {"type": "output_text", "text": words, "annotations": [], "logprobs": []}
        said: dict[str, Any] = {"id": f"msg_{unique}", "type": "message", "role": "assistant"}
        begun = {**said, "status": "in_progress", "content": []}
        yield event("response.output_item.added", output_index=index, item=begun)
        yield event("response.content_part.added", **at, content_index=0, part={**spoken, "text": ""})
        for word in reply.words:
            yield event("response.output_text.delta", **at, content_index=0, delta=word, logprobs=[])
        yield event("response.output_text.done", **at, content_index=0, text=words, logprobs=[])
        yield event("response.content_part.done", **at, content_index=0, part=spoken)
        output.append({**said, "status": "completed", "content": [spoken]})
        yield event("response.output_item.done", output_index=index, item=output[-1])
    for place, call in enumerate(reply.calls):
        index = len(output)
        at = {"output_index": index, "item_id": f"fc_{unique}{place}"}
        item = {
            "id": f"fc_{unique}{place}",
            "type": "function_call",
            "call_id": call.id,
            "name": call.name,
            "arguments": "",
            "status": "in_progress",
        }
        yield event("response.output_item.added", output_index=index, item=item)
        for piece in call.arguments:
            yield event("response.function_call_arguments.delta", **at, delta=piece)
        arguments = "".join(call.arguments)
        yield event("response.function_call_arguments.done", **at, name=call.name, arguments=arguments)
        output.append({**item, "arguments": arguments, "status": "completed"})
        yield event("response.output_item.done", output_index=index, item=output[-1])
    if reply.fails:
        error = {"code": "server_error", "message": "the model is overloaded"}
        yield event("response.failed", response=response("failed", error=error))
    else:
        yield event("response.completed", response=response("completed"))
