"""Ids of responses: a run's own for its first response, and with a number for those that follow."""

import re

_LATER = re.compile(r"(resp_[0-9a-f]+)_([1-9][0-9]{0,5})")


def run_of(response_id: str) -> tuple[str, int]:
    """The run, and which of its responses it is, from 1."""
    later = _LATER.fullmatch(response_id)
    if later is not None and int(later[2]) > 1:
        return later[1], int(later[2])
    return response_id, 1
