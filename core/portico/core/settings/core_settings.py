"""A core's settings. Built once, in __main__, from arguments and PORTICO_CORE_* variables; passed down."""

import re
from functools import partial
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationInfo, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from portico.core.hosts.base.error_disclosure import Readers
from portico.core.sandboxes.sandbox_policy import ANY, PRELOAD
from portico.core.stores.open_stores import check_url
from portico.process.listen_address import UNIX, is_local
from portico.process.secrets import SecretSettings
from portico.process.settings import ReadableFile, check_address, named
from portico.sandbox.backend_registry import NAMES, is_backend
from portico.sandbox.errors import InvalidRequest
from portico.sandbox.local.zygotes import PRELOAD_BYTES
from portico.sandbox.spec import RANGES, SECONDS, NetworkBounds, is_module
from portico.telemetry import logs

_KEY = re.compile(r"[A-Za-z0-9_-]{32,}")


class CoreSettings(SecretSettings):
    """Everything that an operator can set."""

    model_config = SettingsConfigDict(
        env_prefix="PORTICO_CORE_",
        frozen=True,
        hide_input_in_errors=True,  # there are secrets among it
    )

    listen: list[str] = Field(
        default=["127.0.0.1:50051"],
        description="Where to serve gRPC: host:port, or unix:/path. Several are served alike.",
    )
    auth: bool = Field(
        default=False, description="Whether every call needs a credential: an API key, or a JWT."
    )
    insecure_no_auth: bool = Field(
        default=False, description="Whether to serve other machines without auth: anybody can do anything."
    )
    admin_key: SecretStr | None = Field(
        default=None,
        description="The API key that makes the others: 32 or more letters, digits, hyphens, underscores.",
    )
    admin_key_file: Path | None = Field(default=None, description="A file with that key.")
    jwt_issuer: str = Field(default="", description="Whose JWTs are good too: their claim iss.")
    jwt_audience: str = Field(default="", description="For whom they must be made: their claim aud.")
    jwt_jwks_url: str = Field(default="", description="Where the issuer's public keys are.")
    jwt_keys_seconds: float = Field(
        default=3600.0,
        ge=30,
        description="How long keys from there, withdrawn ones too, are good while it can't be read.",
    )
    jwt_user_claim: str = Field(default="sub", description="The claim that names the user.")
    jwt_tenant_claim: str = Field(default="tenant", description="The claim that names the tenant.")
    jwt_scope_claim: str = Field(
        default="scope", description="The claim with scopes; ours begin with portico:, such as portico:read."
    )
    jwt_leeway_seconds: float = Field(
        default=30.0, ge=0, le=600, description="How far the issuer's clock may be from this one."
    )
    tls_cert: ReadableFile | None = Field(
        default=None, description="A certificate (PEM, with its chain) for TLS on TCP addresses."
    )
    tls_key: ReadableFile | None = Field(default=None, description="The certificate's private key (PEM).")
    tls_client_ca: ReadableFile | None = Field(
        default=None, description="Whose certificates clients must have (PEM): mutual TLS."
    )
    gateway_names: list[str] = Field(
        default=[],
        description="A name in the client certificate of a gateway that may tell its callers' addresses.",
    )
    running_runs: int | None = Field(
        default=None, ge=1, description="Runs that may execute at once; more wait, and tenants take turns."
    )
    tenant_running_runs: int | None = Field(default=None, ge=1, description="The same for each tenant.")
    user_running_runs: int | None = Field(default=None, ge=1, description="The same for each user.")
    tenant_queued_runs: int | None = Field(
        default=None, ge=0, description="Runs that may wait at once, of each tenant; more are refused."
    )
    user_queued_runs: int | None = Field(default=None, ge=0, description="The same for each user.")
    run_wall_seconds: float | None = Field(
        default=None,
        gt=0,
        le=604_800,
        description="How long a run may take, its pauses left out, unless less is asked for.",
    )
    run_tool_calls: int | None = Field(
        default=None, ge=0, description="Calls of tools that a run may make, unless less is asked for."
    )
    run_tokens: int | None = Field(
        default=None, ge=0, description="Tokens that a run may report, unless less is asked for."
    )
    run_child_runs: int | None = Field(
        default=None, ge=0, description="Runs that a run may start, unless less is asked for."
    )
    tenant_stored_bytes: int | None = Field(
        default=None, ge=1, description="What all users of a tenant may have stored; more is refused."
    )
    user_stored_bytes: int | None = Field(default=None, ge=1, description="The same for each user.")
    tenant_requests: float | None = Field(
        default=None, gt=0, description="Calls and streams a second, of each tenant; needs auth."
    )
    user_requests: float | None = Field(default=None, gt=0, description="The same for each user.")
    store: str = Field(
        default="sqlite:///.portico/portico.db",
        description="Where runs and everything else live: memory://, or sqlite:///path.",
    )
    migration_copy: bool = Field(
        default=True,
        description="Whether a database of an older release is copied before its tables are changed.",
    )
    store_key: SecretStr | None = Field(
        default=None,
        description="The key that secrets are encrypted with before they are stored: 64 hexadecimal digits. "
        "Older keys may follow, behind commas; what they encrypted is encrypted anew at the start.",
    )
    store_key_file: Path | None = Field(default=None, description="A file with that key, or those keys.")
    drain_seconds: float = Field(
        default=10.0, ge=0, description="After SIGTERM: how long runs may go on before streams are cut."
    )
    reader_grace_seconds: float = Field(
        default=30.0, ge=0, description="How long a foreground run goes on when nobody reads it."
    )
    ephemeral_seconds: float = Field(
        default=60.0, ge=0, description="How long an ephemeral run can still be read after its end."
    )
    run_ttl_seconds: float | None = Field(
        default=None, ge=60, description="How long a run is kept after its end; for ever, unless this is set."
    )
    session_ttl_seconds: float | None = Field(
        default=None, ge=60, description="How long a session is kept after its last use, with its messages."
    )
    state_ttl_seconds: float | None = Field(
        default=None, ge=60, description="How long a state is kept after it was saved."
    )
    memory_ttl_seconds: float | None = Field(
        default=None, ge=60, description="How long a memory is kept after it was added."
    )
    live_runs: int = Field(default=20_000, ge=1, description="Runs that may be live at once.")
    max_message_bytes: int = Field(
        default=16 * 1024 * 1024, ge=64 * 1024, description="The largest gRPC message, in and out."
    )
    keepalive_seconds: float = Field(
        default=30.0,
        ge=1,
        description="How often an idle connection is pinged; clients may ping as often as every 10 s.",
    )
    concurrent_rpcs: int = Field(
        default=20_000, ge=1, description="RPCs that may be open at once; streams count."
    )
    sandbox_backend: str = Field(
        default="local",
        description="Where sandboxes are made: local, docker, docker:RUNTIME, bubblewrap[:/ROOT], or none.",
    )
    sandbox_backends: list[str] = Field(default=[], description="One more backend, which callers may name.")
    sandbox_max: int = Field(default=200, ge=1, description="Sandboxes that there may be at once.")
    sandbox_per_user: int = Field(default=100, ge=1, description="Sandboxes that one user may have at once.")
    sandbox_per_tenant: int | None = Field(
        default=None, ge=1, description="Sandboxes that all users of a tenant may have at once."
    )
    sandbox_pool_size: int = Field(
        default=2, ge=0, le=1_000, description="Sandboxes that wait ready, once the first has been asked for."
    )
    sandbox_memory_bytes: int = Field(
        default=2 << 30,
        ge=RANGES["memory_bytes"][0],
        le=RANGES["memory_bytes"][1],
        description="The most memory to ask for; 512 MiB unless asked for.",
    )
    sandbox_cpus: float = Field(
        default=4.0,
        ge=RANGES["cpus"][0],
        le=RANGES["cpus"][1],
        description="The most CPUs to ask for; 1 unless asked for.",
    )
    sandbox_processes: int = Field(
        default=1024,
        ge=RANGES["processes"][0],
        le=RANGES["processes"][1],
        description="The most processes to ask for; 128 unless asked for.",
    )
    sandbox_disk_bytes: int = Field(
        default=2 << 30,
        ge=RANGES["disk_bytes"][0],
        le=RANGES["disk_bytes"][1],
        description="The most disk to ask for; 256 MiB unless asked for.",
    )
    sandbox_inodes: int = Field(
        default=262_144,
        ge=RANGES["inodes"][0],
        le=RANGES["inodes"][1],
        description="The most files to ask for; 16,384 unless asked for.",
    )
    sandbox_output_bytes: int = Field(
        default=64 << 20,
        ge=RANGES["output_bytes"][0],
        le=RANGES["output_bytes"][1],
        description="The most output of a call to ask for; 16 MiB unless asked for.",
    )
    sandbox_call_seconds: float = Field(
        default=3600.0,
        ge=RANGES["call_seconds"][0],
        le=RANGES["call_seconds"][1],
        description="The longest call to ask for; 60 s unless asked for.",
    )
    sandbox_ttl_seconds: float = Field(
        default=86_400.0,
        gt=0,
        le=SECONDS[1],
        description="How long a sandbox lives, unless less is asked for.",
    )
    sandbox_idle_seconds: float = Field(
        default=1_800.0,
        gt=0,
        le=SECONDS[1],
        description="How long it goes on without a call, unless less is asked for.",
    )
    sandbox_idle_action: Literal["end", "pause"] = Field(
        default="end", description="What happens then, unless asked for: it ends, or pauses until a call."
    )
    sandbox_mounts: list[str] = Field(
        default=[],
        description="A directory that may be shown inside, with all below it; `:rw` lets code write there, "
        "`:own` as the directory's owner.",
    )
    sandbox_network: bool = Field(
        default=True, description="Whether callers may name hosts that a sandbox can reach."
    )
    sandbox_preload: list[str] = Field(
        default=list(PRELOAD),
        description="A module that callers may have preloaded; * allows every module that is installed.",
    )
    sandbox_network_hosts: list[str] = Field(
        default=[],
        description="A host that callers may name, as they write it: pypi.org, *.example.com:8443, "
        "tcp://db.example.com:5432. None: any host.",
    )
    sandbox_network_deny: list[str] = Field(
        default=[],
        description="A host, an address or a network (CIDR) that no sandbox reaches.",
    )
    sandbox_network_open: list[str] = Field(
        default=[],
        description="A network (CIDR) that is not public, such as 10.1.0.0/16, and that sandboxes may reach.",
    )
    sandbox_preload_bytes: int = Field(
        default=PRELOAD_BYTES,
        ge=64 << 20,
        description="Memory that the modules of one sandbox may take while they are preloaded.",
    )
    sandbox_snapshots: int = Field(default=1_024, ge=0, description="Snapshots that are kept at once.")
    sandbox_snapshots_per_user: int = Field(default=64, ge=0, description="The same for each user.")
    sandbox_snapshots_per_tenant: int | None = Field(
        default=None, ge=0, description="The same for each tenant."
    )
    sandbox_snapshot_bytes: int = Field(
        default=8 << 30, ge=0, description="Bytes that snapshots may take on this machine's disk."
    )
    sandbox_snapshot_bytes_per_user: int = Field(default=2 << 30, ge=0, description="The same for each user.")
    sandbox_snapshot_bytes_per_tenant: int | None = Field(
        default=None, ge=0, description="The same for each tenant."
    )
    reflection: bool = Field(default=True, description="Whether to tell the contract to tools like grpcurl.")
    metrics_listen: str = Field(
        default="",
        description="Where to tell Prometheus what this process does: host:port; nowhere if empty.",
    )
    audit_log: str = Field(
        default="",
        description="A file for who did what, a line of JSON for each call; none if empty.",
    )
    log_level: logs.Level = Field(default="info", description="What goes to standard error.")
    log_format: logs.Format = Field(default="human", description="As what: human, or json.")
    log_content: bool = Field(
        default=False, description="Whether what callers and agents say may be in it, as in exceptions."
    )

    error_words: Readers | None = Field(
        default=None,
        description="Who reads the words of exceptions that agents raise: callers; log, where callers get "
        "the kind and an id that the log has too; or none. Unset: callers while auth is off and only this "
        "machine can call, else log.",
    )

    @property
    def error_readers(self) -> Readers:
        """Who reads the words of agents' exceptions."""
        private = not self.auth and all(map(is_local, self.listen))
        return self.error_words or ("callers" if private else "log")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        name = partial(named, type(self))
        jwt = (self.jwt_issuer, self.jwt_audience, self.jwt_jwks_url)
        if any(jwt) and not all(jwt):
            one, other, third = name("jwt_issuer"), name("jwt_audience"), name("jwt_jwks_url")
            raise ValueError(f"{one}, {other} and {third} go together: set all of them")
        keys = urlsplit(self.jwt_jwks_url)
        if any(jwt) and keys.scheme != "https" and not is_local(f"{keys.hostname}:{keys.port}"):
            raise ValueError(f"{name('jwt_jwks_url')} must be https: who can change the keys can be anybody")
        if (any(jwt) or self.admin_key is not None) and not self.auth:
            raise ValueError(f"credentials are set and not asked for: turn on {name('auth')}")
        if self.admin_key is not None and not _KEY.fullmatch(self.admin_key.get_secret_value()):
            raise ValueError(f"{name('admin_key')} needs 32 or more letters, digits, hyphens and underscores")
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError(f"{name('tls_cert')} and {name('tls_key')} go together: set both")
        if self.tls_client_ca is not None and self.tls_cert is None:
            raise ValueError(f"{name('tls_client_ca')} needs {name('tls_cert')} and {name('tls_key')}")
        if self.gateway_names and self.tls_client_ca is None:
            raise ValueError(f"{name('gateway_names')} needs {name('tls_client_ca')}")
        if (self.tenant_requests or self.user_requests) and not self.auth:
            raise ValueError(f"requests are counted by credential: turn on {name('auth')}")
        open_to_all = [address for address in self.listen if not is_local(address)]
        if open_to_all and not self.auth and not self.insecure_no_auth:
            raise ValueError(
                f"other machines can reach {open_to_all[0]}, and auth is off: turn on {name('auth')}, with "
                f"PORTICO_CORE_ADMIN_KEY, --admin-key-file or --jwt-..., or {name('insecure_no_auth')}"
            )
        return self

    @field_validator("store")
    @classmethod
    def _is_a_store(cls, value: str) -> str:
        try:
            check_url(value)
        except ValueError as error:
            raise ValueError(f"can't be used: {error}") from None
        return value

    @field_validator("listen")
    @classmethod
    def _are_addresses(cls, value: list[str]) -> list[str]:
        if not value:
            raise ValueError("needs an address")
        for address in value:
            if not address.startswith(UNIX):
                check_address(address)
        return value

    @field_validator("metrics_listen")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        if value.startswith(":"):
            raise ValueError(f"needs a host, as in 127.0.0.1{value}")
        return check_address(value) if value else value

    @field_validator("sandbox_network_hosts", "sandbox_network_deny", "sandbox_network_open")
    @classmethod
    def _are_network_bounds(cls, value: list[str], info: ValidationInfo) -> list[str]:
        assert info.field_name is not None
        try:
            NetworkBounds(**{info.field_name.removeprefix("sandbox_network_"): tuple(value)}).check()
        except InvalidRequest as error:
            raise ValueError(str(error)) from None
        return value

    @field_validator("sandbox_backend", "sandbox_backends")
    @classmethod
    def _are_backends(cls, value: str | list[str]) -> str | list[str]:
        for name in [value] if isinstance(value, str) else value:
            if not is_backend(name) and value != "none":
                raise ValueError(f"names no backend: {name!r}; there are {NAMES}")
        return value

    @field_validator("sandbox_preload")
    @classmethod
    def _are_modules(cls, value: list[str]) -> list[str]:
        for name in value:
            if name != ANY and not is_module(name):
                raise ValueError(f"has {name!r}, which is not the name of a module")
        return value
