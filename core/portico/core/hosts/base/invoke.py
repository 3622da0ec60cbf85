"""Invocation of an author's function, plain or async, with the arguments that its parameters name."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

from portico.core.hosts.base.function_threads import ThreadSlot, never_patient, run_in_thread


def bind_arguments(function: Callable[..., Any], offered: Mapping[str, Any]) -> Callable[[], Any]:
    """Bind a function to those of the offered arguments that it has parameters for, by name.

    A first parameter named app, agent or runner gets the offered `self`.

    Raises:
        TypeError: A required parameter is not among the offered arguments.
    """
    plan = _call_plan(function)
    positional: list[Any] = []
    named: dict[str, Any] = {}
    for place, (name, positional_only, required) in enumerate(plan.parameters):
        if name in offered:
            if positional_only:
                positional.append(offered[name])
            else:
                named[name] = offered[name]
        elif required:
            if place == 0 and "self" in offered and name in ("self", "app", "agent", "runner"):
                positional.append(offered["self"])
                continue
            raise TypeError(
                f"{function.__name__}() has parameter {name!r}; expected some of {sorted(offered)}"
            )
    if plan.takes_all:
        named.update({name: value for name, value in offered.items() if name != "self" and name not in named})
    return partial(function, *positional, **named)


@dataclass(frozen=True, slots=True)
class _CallPlan:
    parameters: Sequence[tuple[str, bool, bool]]  # name, positional only, required
    takes_all: bool


@lru_cache(maxsize=1024)
def _call_plan(function: Callable[..., Any]) -> _CallPlan:
    """Read a function's signature, cached: reading it takes as long as a whole short run."""
    parameters = inspect.signature(function).parameters.values()
    return _CallPlan(
        [
            (
                parameter.name,
                parameter.kind is parameter.POSITIONAL_ONLY,
                parameter.default is parameter.empty,
            )
            for parameter in parameters
            if parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
        ],
        any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters),
    )


async def invoke(
    function: Callable[[], Any], slot: ThreadSlot, patient: Callable[[], bool] = never_patient
) -> Any:
    """Return the result of a coroutine function, run on the loop, or of a plain function, run in a thread."""
    target = function.func if isinstance(function, partial) else function
    if inspect.iscoroutinefunction(target):
        return await function()
    result = await run_in_thread(function, slot, patient)
    return await result if inspect.isawaitable(result) else result
