"""What a metadata filter compares: the members of a JSON object as text."""

import json
from collections.abc import Mapping
from typing import Any


def members(metadata: str) -> Mapping[str, str]:
    """Top-level strings, numbers as they are written, true and false. Others match no filter."""
    if not metadata:
        return {}
    value: dict[str, Any] = json.loads(metadata, parse_int=str, parse_float=str)
    found: dict[str, str] = {}
    for name, member in value.items():
        if isinstance(member, bool):
            found[name] = "true" if member else "false"
        elif isinstance(member, str):
            found[name] = member
    return found
