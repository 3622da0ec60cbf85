"""Checks the paths of agents."""

from portico.compat.agentscope_runtime.errors import NotThereYet

PATH = "/process"


def check_path(path: str) -> None:
    """Raises NotThereYet for a path that no gateway serves."""
    if path != PATH:
        raise NotThereYet(f"endpoint_path={path!r}", f"agents are at {PATH} and /agents/NAME/process")
