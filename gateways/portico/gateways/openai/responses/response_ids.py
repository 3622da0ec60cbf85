"""Ids of responses, and of what an agent names twice."""

import re
from hashlib import blake2b

_LATER = re.compile(r"(resp_[0-9a-f]+)_([1-9][0-9]{0,5})")
_AGAIN = re.compile(r"(.*)~([0-9]{1,9})([0-9a-f]{4})", re.DOTALL)


def run_of(response_id: str) -> tuple[str, int]:
    """The run, and which of its responses it is, from 1: the first has the run's id, the others a number."""
    later = _LATER.fullmatch(response_id)
    if later is not None and int(later[2]) > 1:
        return later[1], int(later[2])
    return response_id, 1


def sent_call_id(call_id: str, times: int) -> str:
    """A call id that its agent gives for the nth time, from 1, as clients see it: each but once."""
    if times == 1 and own_call_id(call_id) == call_id:
        return call_id
    # With a check, so that an id that merely looks like it is nobody's but its agent's.
    return f"{call_id}~{times}{_check(call_id, times)}"


def own_call_id(call_id: str) -> str:
    """A call id as its agent said it."""
    again = _AGAIN.fullmatch(call_id)
    if again is not None and again[3] == _check(again[1], int(again[2])):
        return again[1]
    return call_id


def _check(call_id: str, times: int) -> str:
    return blake2b(f"{call_id}~{times}".encode(), digest_size=2).hexdigest()
