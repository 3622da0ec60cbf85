"""Creates backends by name, such as "local" or "docker:runsc"."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from portico.sandbox import errors, visible_files
from portico.sandbox.backend import Backend
from portico.sandbox.bubblewrap.backend import BubblewrapBackend, BubblewrapSettings
from portico.sandbox.local.backend import LocalBackend, LocalSettings
from portico.sandbox.local.zygotes import PRELOAD_BYTES

BACKEND_NAMES: Final = "local, docker, docker:RUNTIME, bubblewrap, bubblewrap:/ROOT"
_NAME: Final = re.compile(
    r"(?P<local>local)|(docker)(?::([\w.-]+))?|(?P<bubblewrap>bubblewrap)(?::(?P<root>/.*))?"
)


def is_backend(name: str) -> bool:
    """Whether a name is a valid backend name; see NAMES."""
    return _NAME.fullmatch(name) is not None


def check_private(name: str, private: Mapping[str, str]) -> None:
    """Checks that no private path is visible in sandboxes of a backend.

    Args:
        name: A backend name.
        private: Paths by their descriptions, such as the database.

    Raises:
        BackendUnavailable: A private path would be visible.
    """
    match = _NAME.fullmatch(name)
    if match is not None and (match["local"] or match["bubblewrap"]):
        visible_files.check(private, match["root"] or "/")


def make_backend(name: str, pool_size: int = 0, preload_bytes: int = PRELOAD_BYTES) -> Backend:
    """Creates a backend that is not yet open. Docker images and other settings of the docker backend come
    from environment variables.

    Args:
        name: See NAMES.
        pool_size: Sandboxes in the warm pool.
        preload_bytes: Memory of the modules that the local backend preloads; with other backends, modules
            count as the sandbox's own memory.

    Raises:
        Unsupported: The name is unknown.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise errors.Unsupported(f"unknown backend {name!r}; expected one of {BACKEND_NAMES}")
    local, _, runtime, bubblewrap, root = match.groups()
    if local:
        return LocalBackend(LocalSettings(pool_size=pool_size, preload_bytes=preload_bytes))
    if bubblewrap:
        return BubblewrapBackend(BubblewrapSettings(Path(root or "/"), pool_size))
    # Imported here, so that a process without containers does not load the Docker client.
    from portico.sandbox.docker.backend import DockerBackend
    from portico.sandbox.docker.settings import DockerSettings

    return DockerBackend(DockerSettings.from_environment(runtime=runtime or "", pool_size=pool_size))
