"""Backends by name, as people write them."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from portico.sandbox import errors, visible
from portico.sandbox.backend import Backend
from portico.sandbox.bubblewrap.backend import BubblewrapBackend, BubblewrapSettings
from portico.sandbox.local.backend import LocalBackend, LocalSettings
from portico.sandbox.local.zygotes import PRELOAD_BYTES

NAMES: Final = "local, docker, docker:RUNTIME, bubblewrap, bubblewrap:/ROOT"
_NAME: Final = re.compile(
    r"(?P<local>local)|(docker)(?::([\w.-]+))?|(?P<bubblewrap>bubblewrap)(?::(?P<root>/.*))?"
)


def is_backend(name: str) -> bool:
    return _NAME.fullmatch(name) is not None


def check_private(name: str, private: Mapping[str, str]) -> None:
    """Checks that sandboxes of a backend would not see private paths, given by their names. Raises
    BackendUnavailable."""
    match = _NAME.fullmatch(name)
    if match is not None and (match["local"] or match["bubblewrap"]):
        visible.check(private, match["root"] or "/")


def make_backend(name: str, pool_size: int = 0, preload_bytes: int = PRELOAD_BYTES) -> Backend:
    """A backend that is not yet open. `preload_bytes` is for modules that the local one preloads; elsewhere
    they count as the sandbox's own memory. Images of docker are those of the environment's variables.

    Raises Unsupported for a name that means none.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise errors.Unsupported(f"no backend is called {name!r}; there are {NAMES}")
    local, _, runtime, bubblewrap, root = match.groups()
    if local:
        return LocalBackend(LocalSettings(pool_size=pool_size, preload_bytes=preload_bytes))
    if bubblewrap:
        return BubblewrapBackend(BubblewrapSettings(Path(root or "/"), pool_size))
    # Imported here: who has no use for containers need not load what speaks to an engine.
    from portico.sandbox.docker.backend import DockerBackend
    from portico.sandbox.docker.settings import DockerSettings

    return DockerBackend(DockerSettings.from_environment(runtime=runtime or "", pool_size=pool_size))
