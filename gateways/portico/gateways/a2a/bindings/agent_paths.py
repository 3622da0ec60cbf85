"""Recognises A2A's paths and the agents that they name."""

from typing import NamedTuple

from portico.gateways.a2a.cards import CARD_PATH, DEFAULT_PATH

_AGENTS = "/agents/"


class AgentPath(NamedTuple):
    """The agent named by a path (empty: the default one), and the rest of the path."""

    agent_name: str
    rest: str  # CARD_PATH, or the path after the interface's URL, without a trailing slash


def agent_path_of(path: str) -> AgentPath | None:
    """Parses a path; None for a path that is not A2A's."""
    name = ""
    if path.startswith(_AGENTS):
        name, _, rest = path.removeprefix(_AGENTS).partition("/")
        if not name:
            return None
        path = f"/{rest}"
    if path == CARD_PATH:
        return AgentPath(name, CARD_PATH)
    if path == DEFAULT_PATH or path.startswith(f"{DEFAULT_PATH}/"):
        return AgentPath(name, path.removeprefix(DEFAULT_PATH).rstrip("/"))
    return None
