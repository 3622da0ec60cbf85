"""Ids of responses, and unique ids for calls whose agent repeats an id."""

import re
from hashlib import blake2b

_LATER = re.compile(r"(resp_[0-9a-f]+)_([1-9][0-9]{0,5})")
_AGAIN = re.compile(r"(.*)~([0-9]{1,9})([0-9a-f]{4})", re.DOTALL)


def run_of(response_id: str) -> tuple[str, int]:
    """Splits a response id into the run's id and the response's number in the run, from 1. The first response
    has the run's id, later ones a numeric suffix.
    """
    later = _LATER.fullmatch(response_id)
    if later is not None and int(later[2]) > 1:
        return later[1], int(later[2])
    return response_id, 1


def sent_call_id(call_id: str, times: int) -> str:
    """Returns the call id that clients see when an agent uses `call_id` for the nth time, from 1; each is
    unique.
    """
    if times == 1 and own_call_id(call_id) == call_id:
        return call_id
    # The check digits prevent confusion with an agent's own id of the same form.
    return f"{call_id}~{times}{_check(call_id, times)}"


def own_call_id(call_id: str) -> str:
    """Returns the agent's own id for a call id that clients see."""
    again = _AGAIN.fullmatch(call_id)
    if again is not None and again[3] == _check(again[1], int(again[2])):
        return again[1]
    return call_id


def _check(call_id: str, times: int) -> str:
    return blake2b(f"{call_id}~{times}".encode(), digest_size=2).hexdigest()
