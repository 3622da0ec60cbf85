"""Reads the tools that a caller offers."""

from typing import Any

from portico.gateways.http.request import body_fields
from portico.gateways.http.request.tool_definitions import read_tool
from portico.gateways.openai.errors import invalid, missing


def read_tools(value: Any, target: Any) -> None:
    """Adds the tools to the request. Raises OpenAiError, BadRequest."""
    if value is None:
        return
    if not isinstance(value, list):
        raise invalid("tools", f"must be a list, not {body_fields.quote_value(value)}", "invalid_type")
    for index, tool in enumerate(value):
        field = f"tools[{index}]"
        if not isinstance(tool, dict):
            raise invalid(field, f"must be an object, not {body_fields.quote_value(tool)}", "invalid_type")
        kind = body_fields.text(tool, "type", field)
        if not kind:
            raise missing(f"{field}.type")
        # Hosted tools of OpenAI have no name of their own.
        name = body_fields.text(tool, "name", field) or body_fields.text(tool, "server_label", field)
        if not name and kind in ("function", "custom", "namespace"):
            raise missing(f"{field}.name")
        if not name and kind == "mcp":
            raise missing(f"{field}.server_label")
        target.append(read_tool(tool, tool, name or kind, kind, field))
