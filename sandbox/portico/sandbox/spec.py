"""Specifications of sandboxes: plain values, which can be sent to another machine."""

import re
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import PurePosixPath
from typing import Final, Protocol

from portico.sandbox.egress.addresses import parse_opened
from portico.sandbox.egress.rules import parse_all, parse_denied
from portico.sandbox.errors import InvalidRequest

MIB: Final = 1 << 20
TYPES: Final = ("base", "filesystem")
IDLE_ACTIONS: Final = ("end", "pause")
MOUNTS: Final = 32  # per sandbox: each is an open directory
MODULES: Final = 16  # preloaded modules per sandbox
MODULE_LENGTH: Final = 100  # characters of a module's name
MAX_HOSTS: Final = 256  # allowed hosts per sandbox
SECONDS: Final = (0.001, 1e9)  # bounds of times to live and idle times
RANGES: Final[dict[str, tuple[float, float]]] = {  # bounds of each limit, on any backend
    "memory_bytes": (32 * MIB, 1 << 50),
    "cpus": (0.01, 1024.0),
    "processes": (8, 4_000_000),
    "disk_bytes": (MIB, 1 << 50),
    "inodes": (64, 1 << 40),
    "output_bytes": (1024, 1 << 40),
    "call_seconds": (0.001, 86_400.0),
}
_ENV_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Limits:
    """Resource limits. Disk and inodes cover everything that the sandbox can write to except its mounts."""

    memory_bytes: int = 512 * MIB
    cpus: float = 1.0
    processes: int = 128
    disk_bytes: int = 256 * MIB
    inodes: int = 16_384
    output_bytes: int = 16 * MIB  # of one call
    call_seconds: float = 60.0  # wall time of a call that has no shorter timeout

    def check(self) -> None:
        """Raises InvalidRequest for a value out of bounds."""
        for name, (low, high) in RANGES.items():
            check_number(f"limits.{name}", getattr(self, name), low, high)


def check_number(name: str, value: object, low: float, high: float) -> None:
    """Checks a number. If `low` is an int, the value must be one too. Raises InvalidRequest."""
    kinds = (int,) if isinstance(low, int) else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:
        whole = "a whole number" if isinstance(low, int) else "a number"
        raise InvalidRequest(f"{name}: must be {whole} between {low} and {high}")


# Directories that hold the sandbox's system and its own files, and in images their Python. A mount there
# would replace programs, the supervisor's among them.
_COVERED: Final = {
    "proc", "dev", "usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "etc", "sys", "mounts", "scratch",
    "root", "home", "opt", "var", "run", "boot", "nix", "app", "venv", ".venv", ".portico",
}  # fmt: skip


class OpenedSource(Protocol):
    """The open directory or file of a mount."""

    @property
    def fd(self) -> int: ...

    @property
    def path(self) -> str: ...

    @property
    def inode(self) -> tuple[int, int]:
        """The device's number and the inode's."""
        ...

    @property
    def is_directory(self) -> bool: ...

    @property
    def owner(self) -> tuple[int, int]:
        """The user's id and the group's."""
        ...


@dataclass(frozen=True, slots=True)
class Mount:
    """A directory or file of this machine that is mounted into a sandbox, read-only by default.

    With `as_owner`, files of the source's owner belong to the code inside, and files that the code creates
    belong to that owner. A server without root's rights can do so only for its own user.
    """

    source: str
    target: str
    writable: bool = False
    as_owner: bool = False
    opened: OpenedSource | None = None  # the checked source; None: the path is opened when it is mounted

    def check(self) -> None:
        """Raises InvalidRequest for a path that is not plain, or a target that is not allowed."""
        for name, path in (("source", self.source), ("target", self.target)):
            plain = PurePosixPath(path)
            if "\0" in path or not plain.is_absolute() or ".." in plain.parts or _unlike(plain, path):
                raise InvalidRequest(f"mounts.{name}: must be an absolute, normalized path, not {path!r}")
        first, _, rest = self.target.strip("/").partition("/")
        if first in _COVERED or (first in ("", "workspace", "tmp") and not rest):
            raise InvalidRequest(f"mounts.target: {self.target!r} would hide files that every sandbox needs")


def _unlike(plain: PurePosixPath, path: str) -> bool:
    """Whether a path has parts such as `//` or `/./`."""
    return str(plain) != (path.rstrip("/") or "/")


@dataclass(frozen=True, slots=True)
class NetworkBounds:
    """The operator's limits for the network of sandboxes."""

    hosts: tuple[str, ...] = ()  # rules as in allow_hosts that a caller's rules must lie within; empty: any
    deny: tuple[str, ...] = ()  # hosts, addresses and networks (10.0.0.0/8) that are always refused
    open: tuple[str, ...] = ()  # networks that are not public and are allowed nevertheless

    def check(self) -> None:
        """Raises InvalidRequest for an invalid rule."""
        try:
            parse_all(self.hosts)
            parse_denied(self.deny)
            for text in self.open:
                parse_opened(text)
        except ValueError as error:
            raise InvalidRequest(f"network.bounds: {error}") from None


@dataclass(frozen=True, slots=True)
class NetworkPolicy:
    """The hosts that a sandbox may reach, through a proxy. Without any it has no network.

    `pypi.org` allows plain HTTP at port 80 and TLS at port 443, `pypi.org:8443` both at that port,
    `tcp://db.example.com:5432` any protocol at that port, and `*.example.com` all names below. Addresses that
    are not public, and this machine's own, are refused, whichever name resolves to them.
    """

    allow_hosts: tuple[str, ...] = ()
    bounds: NetworkBounds = field(default_factory=NetworkBounds)

    def check(self) -> None:
        """Raises InvalidRequest for an invalid rule."""
        if len(self.allow_hosts) > MAX_HOSTS:
            raise InvalidRequest(f"network.allow_hosts: more than {MAX_HOSTS} hosts")
        try:
            parse_all(self.allow_hosts)
        except ValueError as error:
            raise InvalidRequest(f"network.allow_hosts: {error}") from None
        self.bounds.check()


@dataclass(frozen=True, slots=True)
class Spec:
    """The specification of one sandbox."""

    type: str = "base"
    limits: Limits = field(default_factory=Limits)
    env: dict[str, str] = field(default_factory=dict)
    mounts: tuple[Mount, ...] = ()
    network: NetworkPolicy = field(default_factory=NetworkPolicy)
    preload: tuple[str, ...] = ()  # modules imported before the sandbox is created; sorted, each once
    ttl_seconds: float | None = None  # from its creation; None: until it is deleted
    idle_seconds: float | None = 1_800.0  # since the last call or resume; None: no limit
    idle_action: str | None = None  # on reaching it: `end` (the default), or `pause` until the next call
    metadata: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.preload:  # so that specs with the same modules are equal, and share a template
            object.__setattr__(self, "preload", tuple(sorted(set(self.preload))))

    def check(self) -> None:
        """Raises InvalidRequest for the first invalid field."""
        if self.idle_action not in (None, *IDLE_ACTIONS):
            raise InvalidRequest(
                f"idle_action: must be one of {', '.join(IDLE_ACTIONS)}, not {self.idle_action!r}"
            )
        if self.type not in TYPES:
            raise InvalidRequest(f"type: must be one of {', '.join(TYPES)}, not {self.type!r}")
        self.limits.check()
        self.network.check()
        if len(self.mounts) > MOUNTS:
            raise InvalidRequest(f"mounts: more than {MOUNTS}")
        for mount in self.mounts:
            mount.check()
        # Creating a mount point below another mount would follow links inside that mount.
        targets = sorted(f"{mount.target.rstrip('/')}/" for mount in self.mounts)
        for one, following in pairwise(targets):
            if following.startswith(one):
                raise InvalidRequest(f"mounts.target: {following!r} is inside {one!r}")
        for name, value in self.env.items():
            if not _ENV_NAME.fullmatch(name) or "\0" in value:
                raise InvalidRequest(f"env: invalid variable: {name!r}")
        if len(self.preload) > MODULES:
            raise InvalidRequest(f"preload: more than {MODULES} modules")
        for module in self.preload:
            if len(module) > MODULE_LENGTH:
                raise InvalidRequest(f"preload: a name has more than {MODULE_LENGTH} characters")
            if not is_module(module):
                raise InvalidRequest(f"preload: not a module name: {module!r}")
        for name in ("ttl_seconds", "idle_seconds"):
            if getattr(self, name) is not None:
                check_number(name, getattr(self, name), *SECONDS)


def is_module(name: str) -> bool:
    """Whether a module can have this name; `__main__` is excluded, because it is a program."""
    parts = name.split(".")
    return all(part.isidentifier() for part in parts) and "__main__" not in parts
