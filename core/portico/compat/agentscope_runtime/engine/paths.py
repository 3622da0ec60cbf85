"""Where agents are served."""

from portico.compat.agentscope_runtime.errors import NotThereYet

PATH = "/process"


def check_path(path: str) -> None:
    """Raises NotThereYet for a path where no gateway is."""
    if path != PATH:
        raise NotThereYet(f"endpoint_path={path!r}", f"agents are at {PATH} and /agents/NAME/process")
