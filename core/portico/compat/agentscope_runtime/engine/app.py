"""AgentApp with the reference's arguments."""

from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from portico.agent import AgentApp as PorticoApp

NAME = "AgentScope Runtime API"


class AgentApp(PorticoApp):
    """`framework="agentscope"` is whichever version is installed."""

    def __init__(self, app_name: str = NAME, app_description: str = "", **options: Any) -> None:
        super().__init__(app_name.replace("/", " "), app_description, **options)

    def query(self, function: Any = None, /, *, framework: str = "agentscope") -> Any:
        """The reference's default framework is AgentScope; `text` is none."""
        if function is not None:
            return self.query(framework=framework)(function)
        name = {"agentscope": _agentscope(), "text": ""}.get(framework, framework)
        register: Callable[[Any], Any] = super().query(framework=name)
        return register


def _agentscope() -> str:
    try:
        return "agentscope1" if version("agentscope").startswith(("0.", "1.")) else "agentscope"
    except PackageNotFoundError:
        return "agentscope"  # whose absence is told when the agent starts
