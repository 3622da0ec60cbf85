"""The table of sandbox backends; it finds and creates one by its name, such as "local" or "docker:runsc".

Another package registers a backend as an entry point of the group `portico.sandbox_backends`: the name of the
kind, and a BackendKind.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Final

from portico.sandbox import errors, visible_files
from portico.sandbox.backend import Backend
from portico.sandbox.bubblewrap.backend import BubblewrapBackend, BubblewrapSettings
from portico.sandbox.local.backend import LocalBackend, LocalSettings
from portico.sandbox.local.zygotes import PRELOAD_BYTES

GROUP: Final = "portico.sandbox_backends"


@dataclass(frozen=True, slots=True)
class BackendOptions:
    """What a backend is created with."""

    argument: str = ""  # the text after the kind's name and a colon; empty without a colon
    pool_size: int = 0  # sandboxes in the warm pool
    preload_bytes: int = PRELOAD_BYTES  # memory of preloaded modules that is not the sandbox's own


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendKind:
    """One kind of backend: a row of the table."""

    make: Callable[[BackendOptions], Backend]  # creates a backend that is not yet open
    argument: str | None = None  # regular expression of the text after a colon; None if there is no argument
    placeholder: str = ""  # the argument in messages, such as RUNTIME
    # The root directory whose files sandboxes see, by argument; None if they see no files of this machine.
    visible_root: Callable[[str], str] | None = None
    # Returns why code cannot import the packages of this Python environment, empty if it can; None if only
    # the open backend knows.
    missing_packages: Callable[[], str] | None = None

    def accepts(self, argument: str | None) -> bool:
        """Returns whether a name may have this argument; None stands for a name without a colon."""
        if argument is None:
            return True
        return self.argument is not None and re.fullmatch(self.argument, argument) is not None

    def names(self, kind: str) -> Sequence[str]:
        """Returns the forms of the backend's names, for messages."""
        return (kind,) if self.argument is None else (kind, f"{kind}:{self.placeholder}")


def _make_local(options: BackendOptions) -> Backend:
    return LocalBackend(LocalSettings(pool_size=options.pool_size, preload_bytes=options.preload_bytes))


def _make_docker(options: BackendOptions) -> Backend:
    # Imported here, so that a process without containers does not load the Docker client.
    from portico.sandbox.docker.backend import DockerBackend
    from portico.sandbox.docker.settings import DockerSettings

    return DockerBackend(
        DockerSettings.from_environment(runtime=options.argument, pool_size=options.pool_size)
    )


def _make_bubblewrap(options: BackendOptions) -> Backend:
    return BubblewrapBackend(BubblewrapSettings(Path(options.argument or "/"), options.pool_size))


# Not entry points, because they must be found in a source tree that is not installed too.
BACKENDS: Final[Mapping[str, BackendKind]] = {
    "local": BackendKind(
        make=_make_local,
        visible_root=lambda argument: "/",
        missing_packages=visible_files.without_packages,
    ),
    "docker": BackendKind(make=_make_docker, argument=r"[\w.-]+", placeholder="RUNTIME"),
    "bubblewrap": BackendKind(
        make=_make_bubblewrap,
        argument=r"/.*",
        placeholder="/ROOT",
        visible_root=lambda argument: argument or "/",
    ),
}


OWN_NAMES: Final = tuple(name for kind, row in BACKENDS.items() for name in row.names(kind))


def backend_names() -> Sequence[str]:
    """Returns the names of all backends: OWN_NAMES, then those of other packages."""
    return [*OWN_NAMES, *sorted({point.name for point in entry_points(group=GROUP)} - BACKENDS.keys())]


def is_backend(name: str) -> bool:
    """Returns whether a name is one of a backend; see `backend_names`. Raises BackendUnavailable if the
    package of the backend cannot be imported."""
    return _find(name) is not None


def check_private(name: str, private: Mapping[str, str]) -> None:
    """Checks that no private path is visible in sandboxes of a backend.

    Args:
        name: A backend name.
        private: Paths by their descriptions, such as the database.

    Raises:
        BackendUnavailable: A private path would be visible.
    """
    found = _find(name)
    if found is not None and found[0].visible_root is not None:
        visible_files.check(private, found[0].visible_root(found[1]))


def missing_packages(name: str) -> str:
    """Returns why code in sandboxes of a backend cannot import the packages of this environment; empty if it
    can, or if only the open backend knows."""
    found = _find(name)
    return "" if found is None or found[0].missing_packages is None else found[0].missing_packages()


def make_backend(name: str, pool_size: int = 0, preload_bytes: int = PRELOAD_BYTES) -> Backend:
    """Creates a backend that is not yet open. Docker images and other settings of the docker backend come
    from environment variables.

    Args:
        name: See `backend_names`.
        pool_size: Sandboxes in the warm pool.
        preload_bytes: Memory of the modules that the local backend preloads; with other backends, modules
            count as the sandbox's own memory.

    Raises:
        Unsupported: The name is unknown.
        BackendUnavailable: The package of the backend cannot be imported.
    """
    found = _find(name)
    if found is None:
        raise errors.Unsupported(f"unknown backend {name!r}; expected one of {', '.join(backend_names())}")
    kind, argument = found
    return kind.make(BackendOptions(argument, pool_size, preload_bytes))


def _find(name: str) -> tuple[BackendKind, str] | None:
    """Returns the kind that a name is of, and its argument; None if there is none."""
    kind, colon, argument = name.partition(":")
    row = BACKENDS.get(kind) or _registered(kind)
    if row is None or not row.accepts(argument if colon else None):
        return None
    return row, argument


def _registered(kind: str) -> BackendKind | None:
    """Returns the kind that another package registers. Raises BackendUnavailable."""
    for point in entry_points(group=GROUP, name=kind):
        try:
            row: BackendKind = point.load()
        except ImportError as error:
            raise errors.BackendUnavailable(f"the backend {kind!r} can't be imported ({error})") from error
        return row
    return None
