"""The tools that a caller offers, as the contract has them."""

from typing import Any

from portico.gateways.http import fields
from portico.v1 import query_pb2


def declared(
    described: dict[str, Any], whole: dict[str, Any], name: str, kind: str, field: str
) -> query_pb2.Tool:
    """A tool with `description` and `parameters` of one object, and `whole` kept as it was said.

    Raises BadRequest, which names the part of `field` that is wrong.
    """
    parameters = described.get("parameters")
    return query_pb2.Tool(
        name=name,
        description=fields.text(described, "description", field),
        parameters_json="" if parameters is None else fields.object_text(parameters, f"{field}.parameters"),
        type=kind,
        raw_json=fields.dump(whole, field),
    )
