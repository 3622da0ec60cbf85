"""Finds the adapter of a framework by name: Portico's own, or one that another package registers.

A package registers an adapter as an entry point of the group `portico.frameworks`: the framework's name, and
a callable without arguments that makes the AdapterFactory. Portico's own adapters are the classes named
`Adapter` of the packages in `portico.frameworks`.
"""

from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points

from portico.agent.adapter_interface import AdapterFactory

GROUP = "portico.frameworks"
# Not entry points, because they must be found in a source tree that is not installed too.
_OWN = {
    "agentscope": "portico.frameworks.agentscope",
    "agentscope1": "portico.frameworks.agentscope1",
    "agno": "portico.frameworks.agno",
    "autogen": "portico.frameworks.autogen",
    "langgraph": "portico.frameworks.langgraph",
    "ms_agent_framework": "portico.frameworks.ms_agent_framework",
    "openai": "portico.frameworks.openai",
    "openai_agents": "portico.frameworks.openai_agents",
    "pydantic_ai": "portico.frameworks.pydantic_ai",
}


class FrameworkMissing(Exception):
    """The framework is unknown or not installed; the message says what to do."""


def framework_names() -> Sequence[str]:
    """Names of all known frameworks, installed or not."""
    return sorted({*_OWN, *(point.name for point in entry_points(group=GROUP))})


@cache
def load_framework(name: str) -> AdapterFactory:
    """Returns the adapter of a framework, made once per process. Raises FrameworkMissing."""
    make: Callable[[], AdapterFactory]
    try:
        if name in _OWN:
            make = import_module(_OWN[name]).Adapter
        else:
            points = list(entry_points(group=GROUP, name=name))
            if not points:
                known = ", ".join(framework_names())
                raise FrameworkMissing(f"no adapter for the framework {name!r}; expected one of {known}")
            make = points[0].load()
    except ImportError as error:
        extra = {"agentscope1": "agentscope<2"}.get(name, f"portico-runtime[{name}]")
        install = f'pip install "{extra}"' if name in _OWN else "install it"
        raise FrameworkMissing(f"the framework {name!r} can't be imported ({error}); {install}") from error
    return make()
