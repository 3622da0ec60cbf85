"""Variables with a name like ours that no setting has: a misspelt one would silently do nothing."""

import os
import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from pydantic_settings import BaseSettings

from portico.process.settings import variable

PREFIX = "PORTICO_"
PROCESSES = ("CORE_", "HTTP_", "SSE_", "OPENAI_", "A2A_", "MCP_")  # who reads variables with what comes next
_OTHERS = {  # of the command line, of workers and of tests
    *(
        "PORTICO_CREDENTIAL",
        "PORTICO_CREDENTIAL_FILE",
        "PORTICO_TLS",
        "PORTICO_TLS_CA",
        "PORTICO_TLS_CERT",
        "PORTICO_TLS_KEY",
    ),
    *("PORTICO_WORKER", "PORTICO_FAULTS"),
}
_OF_TESTS = ("PORTICO_FUZZ_", "PORTICO_SOAK_", "PORTICO_TEST_")
# What Kubernetes sets for a Service that is called portico, portico-core, …
_OF_KUBERNETES = re.compile(
    r"PORTICO_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_\w+)?)?)"
)
_CLOSE = 0.75  # of difflib's ratio


def unknown(settings: Sequence[type[BaseSettings]], *, strangers: bool) -> Iterable[str]:
    """A sentence for each variable that has one of these settings' prefixes and is none of them.

    A variable with no process's prefix is reported where a name is close to it, and by the process that takes
    `strangers`.
    """
    known = [variable(one, field) for one in settings for field in one.model_fields]
    prefixes = tuple({str(one.model_config.get("env_prefix", "")) for one in settings})
    of_processes = tuple(PREFIX + name for name in PROCESSES)
    for name in sorted(os.environ):
        upper = name.upper()
        if (
            not upper.startswith(PREFIX)
            or upper in known
            or upper in _OTHERS
            or upper.startswith(_OF_TESTS)
            or _OF_KUBERNETES.fullmatch(upper)
        ):
            continue
        own = upper.startswith(prefixes)
        near = _nearest(upper, known, own)
        if own or (not upper.startswith(of_processes) and (near or strangers)):
            hint = f"; the nearest one is {near}" if near else ""
            yield f"the variable {name} is no setting of this process and does nothing{hint}"


def _nearest(name: str, known: Sequence[str], own: bool) -> str:
    """The one that has the same setting, or else one that is written much like it; empty without one."""
    by_setting = {_setting(one): one for one in reversed([*known])}  # the first one of a setting counts
    if own or _setting(name) in by_setting:
        return next((by_setting[one] for one in get_close_matches(_setting(name), by_setting, 1, _CLOSE)), "")
    return next(iter(get_close_matches(name, known, 1, _CLOSE)), "")


def _setting(name: str) -> str:
    """What follows the process's name."""
    return name.split("_", 2)[-1]
