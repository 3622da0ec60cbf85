"""Backends by name, as people write them: local, docker, docker:RUNTIME."""

from portico.sandbox import errors
from portico.sandbox.backend import Backend
from portico.sandbox.local.backend import LocalBackend, LocalSettings

NAMES = "local, docker, docker:RUNTIME"


def make_backend(name: str, pool_size: int = 0) -> Backend:
    """A backend that is not yet open; images of docker are those of the environment's variables.

    Raises Unsupported for a name that means none.
    """
    kind, _, which = name.partition(":")
    if name == "local":
        return LocalBackend(LocalSettings(pool_size=pool_size))
    if kind == "docker" and (which or ":" not in name):
        # Imported here: who has no use for containers need not load what speaks to an engine.
        from portico.sandbox.docker.backend import DockerBackend
        from portico.sandbox.docker.settings import DockerSettings

        return DockerBackend(DockerSettings.from_environment(runtime=which, pool_size=pool_size))
    raise errors.Unsupported(f"no backend is called {name!r}; there are {NAMES}")
