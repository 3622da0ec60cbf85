"""Converts tools of sandboxes to AgentScope 1's."""

import asyncio
import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

from agentscope.message import AudioBlock, Base64Source, ImageBlock, TextBlock
from agentscope.tool import ToolResponse

__all__ = ["sandbox_tool_adapter"]


def sandbox_tool_adapter(func: Callable[..., Any]) -> Callable[..., Any]:
    """Converts a tool: `toolkit.register_tool_function(sandbox_tool_adapter(sandbox.run_ipython_cell))`.

    The result has the method's signature and description. A sync sandbox's method runs in a thread.
    """

    @wraps(func)
    async def call(*arguments: Any, **named: Any) -> ToolResponse:
        if inspect.iscoroutinefunction(func):
            return _response(await func(*arguments, **named))
        return _response(await asyncio.to_thread(func, *arguments, **named))

    return call


def _response(result: Any) -> ToolResponse:
    if isinstance(result, ToolResponse):
        return result
    if not isinstance(result, Mapping) or "content" not in result:
        return ToolResponse(content=[TextBlock(type="text", text=str(result))])
    return ToolResponse(content=[_block(part) for part in result["content"]], metadata=result.get("meta"))


def _block(part: Mapping[str, Any]) -> Any:
    kind = part.get("type")
    if kind in ("image", "audio"):
        source = Base64Source(type="base64", media_type=part["mimeType"], data=part["data"])
        return (
            ImageBlock(type="image", source=source)
            if kind == "image"
            else AudioBlock(type="audio", source=source)
        )
    return TextBlock(type="text", text=str(part["text"]) if kind == "text" else str(dict(part)))
