"""Converts budgets from and to JSON: `wall_time` in seconds, `tool_calls`, `tokens`, `child_runs`."""

from typing import Any

from portico.gateways.http.errors import BadRequest
from portico.gateways.http.request import body_fields
from portico.v1 import events_pb2 as pb

_COUNTS = ("tool_calls", "tokens", "child_runs")
_LIMITS = {
    number: name.removeprefix("BUDGET_LIMIT_").lower() for name, number in pb.BudgetLimit.items() if number
}


def read_budget(value: Any, field: str, target: pb.Budget) -> None:
    """Reads the JSON of a budget into `target`. Raises BadRequest, whose path begins with `field`."""
    if not isinstance(value, dict):
        raise BadRequest(f"{field}: must be an object", field=field)
    target.SetInParent()
    for name, item in value.items():
        path = f"{field}.{name}"
        if name == "wall_time" and item is not None:
            seconds = body_fields.number(item, path)
            if not 0 < seconds <= 10**9:
                raise BadRequest(f"{path}: must be a number of seconds above 0", field=path)
            target.wall_time.FromNanoseconds(int(seconds * 1e9))
        elif name in _COUNTS and item is not None:
            # Some callers can only send floats.
            whole = not isinstance(item, bool) and isinstance(item, int | float) and item == item // 1
            if not whole or not 0 <= item < 2**63:
                raise BadRequest(f"{path}: must be a whole number, 0 or more", field=path)
            setattr(target, name, int(item))
        elif name != "wall_time" and name not in _COUNTS:
            raise BadRequest(
                f"{path}: unknown limit; expected wall_time, tool_calls, tokens or child_runs", field=path
            )


def budget_json(budget: pb.Budget) -> dict[str, Any]:
    """Returns the limits that are set."""
    told: dict[str, Any] = {}
    if budget.HasField("wall_time"):
        told["wall_time"] = budget.wall_time.ToMilliseconds() / 1000
    if budget.HasField("tool_calls"):
        told["tool_calls"] = budget.tool_calls
    if budget.HasField("tokens"):
        told["tokens"] = budget.tokens
    if budget.HasField("child_runs"):
        told["child_runs"] = budget.child_runs
    return told


def used_json(used: pb.BudgetUse) -> dict[str, Any]:
    """Returns the amounts used, and `exceeded`, the limit that ended the run, if one did."""
    told: dict[str, Any] = {
        "wall_time": used.wall_time.ToMilliseconds() / 1000,
        "tool_calls": used.tool_calls,
        "tokens": used.tokens,
        "child_runs": used.child_runs,
    }
    if used.exceeded:
        told["exceeded"] = _LIMITS.get(used.exceeded, "unknown")
    return told
