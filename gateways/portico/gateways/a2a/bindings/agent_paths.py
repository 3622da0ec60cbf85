"""Which paths are A2A's, and whose they are."""

from typing import NamedTuple

from portico.gateways.a2a.cards import CARD_PATH, DEFAULT_PATH

_AGENTS = "/agents/"


class Place(NamedTuple):
    """An agent, by the name in the path (empty: the default one), and what is asked of it."""

    agent_name: str
    rest: str  # CARD_PATH, or what follows the interface's URL, without a slash at its end


def place_of(path: str) -> Place | None:
    """None for a path that is somebody else's."""
    name = ""
    if path.startswith(_AGENTS):
        name, _, rest = path.removeprefix(_AGENTS).partition("/")
        if not name:
            return None
        path = f"/{rest}"
    if path == CARD_PATH:
        return Place(name, CARD_PATH)
    if path == DEFAULT_PATH or path.startswith(f"{DEFAULT_PATH}/"):
        return Place(name, path.removeprefix(DEFAULT_PATH).rstrip("/"))
    return None
