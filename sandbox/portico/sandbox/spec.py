"""What a sandbox is asked to be. Plain values, so that they can cross a wire to another node."""

import re
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

from portico.sandbox.egress.addresses import parse_opened
from portico.sandbox.egress.rules import parse_all, parse_denied
from portico.sandbox.errors import InvalidRequest

if TYPE_CHECKING:
    from portico.sandbox.sources import Source

MIB: Final = 1 << 20
TYPES: Final = ("base", "filesystem")
IDLE_ACTIONS: Final = ("end", "pause")
MOUNTS: Final = 32  # that one sandbox may have: each is an open directory
MODULES: Final = 16  # that one sandbox may have preloaded
MODULE_LENGTH: Final = 100  # characters of a module's name
MAX_HOSTS: Final = 256  # that one sandbox may be allowed
SECONDS: Final = (0.001, 1e9)  # the shortest and the longest of times to live
RANGES: Final[dict[str, tuple[float, float]]] = {  # the least and the most of each limit, anywhere
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
    """The most a sandbox may use. Disk and inodes cover everything it can write to but its mounts."""

    memory_bytes: int = 512 * MIB
    cpus: float = 1.0
    processes: int = 128
    disk_bytes: int = 256 * MIB
    inodes: int = 16_384
    output_bytes: int = 16 * MIB  # of one call
    call_seconds: float = 60.0  # wall time of one call, unless the call says less

    def check(self) -> None:
        """Raises InvalidRequest."""
        for name, (low, high) in RANGES.items():
            check_number(f"limits.{name}", getattr(self, name), low, high)


def check_number(name: str, value: object, low: float, high: float) -> None:
    """Raises InvalidRequest for a value out of bounds; between whole numbers it must be a whole number."""
    kinds = (int,) if isinstance(low, int) else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:
        whole = "a whole number" if isinstance(low, int) else "a number"
        raise InvalidRequest(f"{name}: must be {whole} between {low} and {high}")


# Where a sandbox has its system and its own files, and images their Python: a mount there would give it other
# programs, and the agent too.
_COVERED: Final = {
    "proc", "dev", "usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "etc", "sys", "mounts", "scratch",
    "root", "home", "opt", "var", "run", "boot", "nix", "app", "venv", ".venv", ".portico",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Mount:
    """A directory or file of the node shown inside. Read-only unless it says otherwise.

    As its owner: what belongs to the directory's owner on the node belongs to the code inside, and what code
    makes there belongs to that owner. Without root's rights that owner is the user who makes the sandbox.
    """

    source: str
    target: str
    writable: bool = False
    as_owner: bool = False
    opened: "Source | None" = None  # what the source led to when it was checked; none: it is opened by path

    def check(self) -> None:
        """Raises InvalidRequest."""
        for name, path in (("source", self.source), ("target", self.target)):
            plain = PurePosixPath(path)
            if "\0" in path or not plain.is_absolute() or ".." in plain.parts or _unlike(plain, path):
                raise InvalidRequest(f"mounts.{name}: not an absolute plain path: {path!r}")
        first, _, rest = self.target.strip("/").partition("/")
        if first in _COVERED or (first in ("", "workspace", "tmp") and not rest):
            raise InvalidRequest(f"mounts.target: not allowed: {self.target!r}")


def _unlike(plain: PurePosixPath, path: str) -> bool:
    """Whether a path has more in it than the names on the way, such as `//` or `/./`."""
    return str(plain) != (path.rstrip("/") or "/")


@dataclass(frozen=True, slots=True)
class NetworkBounds:
    """The operator's limits for the network of sandboxes."""

    hosts: tuple[str, ...] = ()  # rules as in allow_hosts, within which a caller's must be; any when empty
    deny: tuple[str, ...] = ()  # hosts, addresses and networks (10.0.0.0/8) that are never reached
    open: tuple[str, ...] = ()  # networks that are not public and may be reached all the same

    def check(self) -> None:
        """Raises InvalidRequest."""
        try:
            parse_all(self.hosts)
            parse_denied(self.deny)
            for text in self.open:
                parse_opened(text)
        except ValueError as error:
            raise InvalidRequest(f"network.bounds: {error}") from None


@dataclass(frozen=True, slots=True)
class NetworkPolicy:
    """Which hosts may be reached, through a proxy. None: no network at all.

    `pypi.org` means plain HTTP at port 80 and TLS at port 443, `pypi.org:8443` both at that port,
    `tcp://db.example.com:5432` any bytes at that port, and `*.example.com` all names below. Whatever a name
    resolves to, addresses that are not public, and this machine's own, are refused.
    """

    allow_hosts: tuple[str, ...] = ()
    bounds: NetworkBounds = field(default_factory=NetworkBounds)

    def check(self) -> None:
        """Raises InvalidRequest."""
        if len(self.allow_hosts) > MAX_HOSTS:
            raise InvalidRequest(f"network.allow_hosts: more than {MAX_HOSTS} hosts")
        try:
            parse_all(self.allow_hosts)
        except ValueError as error:
            raise InvalidRequest(f"network.allow_hosts: {error}") from None
        self.bounds.check()


@dataclass(frozen=True, slots=True)
class Spec:
    type: str = "base"
    limits: Limits = field(default_factory=Limits)
    env: dict[str, str] = field(default_factory=dict)
    mounts: tuple[Mount, ...] = ()
    network: NetworkPolicy = field(default_factory=NetworkPolicy)
    preload: tuple[str, ...] = ()  # modules that are imported before the sandbox is made; sorted, each once
    ttl_seconds: float | None = None  # from its creation; none: until it is destroyed
    idle_seconds: float | None = 1_800.0  # since the last call, or since it was resumed
    idle_action: str | None = None  # what happens then: `end`, the default, or `pause` until the next call
    metadata: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.preload:  # the same modules are the same spec, and share a template
            object.__setattr__(self, "preload", tuple(sorted(set(self.preload))))

    def check(self) -> None:
        """Raises InvalidRequest."""
        if self.idle_action not in (None, *IDLE_ACTIONS):
            raise InvalidRequest(f"idle_action: one of {', '.join(IDLE_ACTIONS)}, not {self.idle_action!r}")
        if self.type not in TYPES:
            raise InvalidRequest(f"type: one of {', '.join(TYPES)}, not {self.type!r}")
        self.limits.check()
        self.network.check()
        if len(self.mounts) > MOUNTS:
            raise InvalidRequest(f"mounts: more than {MOUNTS}")
        for mount in self.mounts:
            mount.check()
        # A mount below another one would follow the links in that one.
        targets = sorted(f"{mount.target.rstrip('/')}/" for mount in self.mounts)
        for one, following in pairwise(targets):
            if following.startswith(one):
                raise InvalidRequest(f"mounts.target: {following!r} is not apart from {one!r}")
        for name, value in self.env.items():
            if not _ENV_NAME.fullmatch(name) or "\0" in value:
                raise InvalidRequest(f"env: not a variable: {name!r}")
        if len(self.preload) > MODULES:
            raise InvalidRequest(f"preload: more than {MODULES} modules")
        for module in self.preload:
            if len(module) > MODULE_LENGTH:
                raise InvalidRequest(f"preload: a name of more than {MODULE_LENGTH} characters")
            if not is_module(module):
                raise InvalidRequest(f"preload: not a module: {module!r}")
        for name in ("ttl_seconds", "idle_seconds"):
            if getattr(self, name) is not None:
                check_number(name, getattr(self, name), *SECONDS)


def is_module(name: str) -> bool:
    """Whether a module can have this name; a `__main__` is a program."""
    parts = name.split(".")
    return all(part.isidentifier() for part in parts) and "__main__" not in parts
