"""Finds misspelt environment variables of Portico, which would have no effect."""

import os
import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from pydantic_settings import BaseSettings

from portico.process.settings import variable

PREFIX = "PORTICO_"
PROCESSES = ("CORE_", "HTTP_", "SSE_", "OPENAI_", "A2A_", "MCP_")  # prefixes by process
_OTHERS = {  # variables of the command line, of workers and of tests
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
# Variables that Kubernetes sets for a Service named portico, portico-core, …
_OF_KUBERNETES = re.compile(
    r"PORTICO_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_\w+)?)?)"
)
_CLOSE = 0.75  # least difflib ratio of a similar name


def find_unknown_variables(settings: Sequence[type[BaseSettings]], *, strangers: bool) -> Iterable[str]:
    """Yields a warning for each variable that has the prefix of one of these settings but names no setting.

    A variable without any process's prefix is reported if it resembles a setting's name; with `strangers`,
    always.
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
            hint = f"; did you mean {near}?" if near else ""
            yield f"the variable {name} is not a setting of this process and has no effect{hint}"


def _nearest(name: str, known: Sequence[str], own: bool) -> str:
    """The known name with the same setting, or else a similar one; empty without one."""
    by_setting = {_setting(one): one for one in reversed([*known])}  # the first name of a setting counts
    if own or _setting(name) in by_setting:
        return next((by_setting[one] for one in get_close_matches(_setting(name), by_setting, 1, _CLOSE)), "")
    return next(iter(get_close_matches(name, known, 1, _CLOSE)), "")


def _setting(name: str) -> str:
    """The part after the process's prefix."""
    return name.split("_", 2)[-1]
