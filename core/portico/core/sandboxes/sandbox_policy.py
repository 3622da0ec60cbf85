"""The operator's policy for sandboxes: what callers may request."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache

from portico.core.errors import InvalidArgument
from portico.core.sandboxes.sandbox_errors import translate_sandbox_errors
from portico.model.identity import tenant_of
from portico.sandbox.egress.rules import covers, parse_all
from portico.sandbox.local.zygotes import PRELOAD_BYTES
from portico.sandbox.manager.quotas import SandboxQuota, SandboxQuotas
from portico.sandbox.spec import MIB, MODULE_LENGTH, RANGES, Limits, NetworkBounds, NetworkPolicy, Spec

# Modules that may be preloaded by default: they take long to import, and importing them starts no thread,
# process or connection.
PRELOAD = (
    "PIL", "PIL.Image", "asyncio", "matplotlib", "matplotlib.pyplot", "networkx", "numpy", "openpyxl",
    "pandas", "requests", "scipy", "scipy.stats", "seaborn", "sklearn", "statsmodels", "sympy",
)  # fmt: skip
ANY_MODULE = "*"
NO_BACKEND = "none"  # in place of the default backend: the core has no sandboxes


@dataclass(frozen=True, slots=True)
class SandboxPolicy:
    """Upper limits for sandboxes; a request without limits gets the library's defaults, or these if they are
    lower.
    """

    backend: str = "local"  # or NO_BACKEND
    more_backends: tuple[str, ...] = ()  # further backends that a caller may name
    total: SandboxQuota = field(default_factory=lambda: SandboxQuota(200, 1_024, 8 << 30))
    per_user: SandboxQuota = field(default_factory=lambda: SandboxQuota(100, 64, 2 << 30))
    per_tenant: SandboxQuota = field(default_factory=SandboxQuota)
    limits: Limits = field(
        default_factory=lambda: Limits(
            memory_bytes=2048 * MIB,
            cpus=4.0,
            processes=1_024,
            disk_bytes=2048 * MIB,
            inodes=262_144,
            output_bytes=64 * MIB,
            call_seconds=3_600.0,
        )
    )
    ttl_seconds: float = 86_400.0
    idle_seconds: float = 1_800.0
    idle_action: str = "end"  # or pause
    mounts: tuple[
        str, ...
    ] = ()  # directories of the host; suffix `:rw` for writable, `:own` for its owner's rights
    private: Mapping[str, str] = field(default_factory=dict)  # paths of private files, by description
    network: bool = True
    network_bounds: NetworkBounds = field(default_factory=NetworkBounds)
    preload: tuple[str, ...] = PRELOAD  # modules that may be preloaded; ANY_MODULE allows every module
    preload_bytes: int = PRELOAD_BYTES
    pool_size: int = 0

    def quotas(self) -> SandboxQuotas:
        """New counters of sandboxes and snapshots with these limits."""
        return SandboxQuotas(self.total, self.per_tenant, self.per_user, tenant_of)

    def defaults(self) -> Limits:
        """The library's default limits, reduced to the operator's."""
        return _reduced(self.limits)

    def check_spec(self, spec: Spec) -> Spec:
        """Apply the policy: fill in the spec's times and network. AllowedMounts opens its mounts.

        Raises:
            InvalidArgument: The policy forbids the spec.
        """
        for name, (least, _) in RANGES.items():
            most = getattr(self.limits, name)
            if not least <= getattr(spec.limits, name) <= most:  # NaN fails too
                raise InvalidArgument(f"spec.limits.{name}", f"must be between {least} and {most}")
        for module in spec.preload:
            if module not in self.preload and ANY_MODULE not in self.preload:
                name = module[:MODULE_LENGTH]
                raise InvalidArgument(
                    "spec.preload",
                    f"{name!r} is not allowed to be preloaded by this core; import it in a cell",
                )
        ttl = min(spec.ttl_seconds or self.ttl_seconds, self.ttl_seconds)
        idle = min(spec.idle_seconds or self.idle_seconds, self.idle_seconds)
        spec = replace(
            spec,
            network=self._network(spec.network),
            ttl_seconds=ttl,
            idle_seconds=idle,
            idle_action=spec.idle_action or self.idle_action,
        )
        with translate_sandbox_errors():
            spec.check()
        return spec

    def _network(self, network: NetworkPolicy) -> NetworkPolicy:
        """The network policy within the operator's bounds."""
        if not network.allow_hosts:
            return NetworkPolicy()  # equal to the default, so that a sandbox of the warm pool fits
        if not self.network:
            raise InvalidArgument("spec.allow_hosts", "must be empty: sandboxes of this core have no network")
        with translate_sandbox_errors():
            network.check()
        operator = parse_all(self.network_bounds.hosts)
        for index, rule in enumerate(parse_all(network.allow_hosts)):
            if operator and not covers(operator, rule):
                raise InvalidArgument(
                    f"spec.allow_hosts[{index}]", "is not among the hosts that this core's operator allows"
                )
        return replace(network, bounds=self.network_bounds)


@lru_cache(maxsize=8)  # every creation of a sandbox needs them
def _reduced(limits: Limits) -> Limits:
    """The library's default limits, reduced to the given ones."""
    usual = Limits()
    return Limits(
        **{each.name: min(getattr(usual, each.name), getattr(limits, each.name)) for each in fields(Limits)}
    )
