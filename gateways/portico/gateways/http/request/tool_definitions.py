"""Reads the tools that a caller offers to the agent."""

from typing import Any

from portico.gateways.http.request import body_fields
from portico.v1 import query_pb2


def read_tool(
    described: dict[str, Any], whole: dict[str, Any], name: str, kind: str, field: str
) -> query_pb2.Tool:
    """Makes a tool for the agent.

    Args:
        described: The object with `description` and `parameters`.
        whole: The tool as the caller sent it; passed on unchanged.
        name: The tool's name.
        kind: The tool's type.
        field: The path of the tool in the body, for errors.

    Raises:
        BadRequest: The description or the parameters are invalid.
    """
    parameters = described.get("parameters")
    return query_pb2.Tool(
        name=name,
        description=body_fields.text(described, "description", field),
        parameters_json=""
        if parameters is None
        else body_fields.object_text(parameters, f"{field}.parameters"),
        type=kind,
        raw_json=body_fields.dump(whole, field),
    )
