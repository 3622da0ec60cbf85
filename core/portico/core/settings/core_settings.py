"""The core's settings, read once at the start from arguments and PORTICO_CORE_* variables."""

import re
from functools import partial
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationInfo, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from portico.core.hosts.base.error_disclosure import ErrorAudience
from portico.core.sandboxes.sandbox_policy import ANY_MODULE, NO_BACKEND, PRELOAD
from portico.core.stores.open_stores import check_url
from portico.process.listen_address import UNIX_PREFIXES, is_local_grpc_address
from portico.process.secrets import SecretSettings
from portico.process.settings import ReadableFile, check_address, named
from portico.sandbox.backend_registry import OWN_NAMES, backend_names, is_backend
from portico.sandbox.errors import BackendUnavailable, InvalidRequest
from portico.sandbox.local.zygotes import PRELOAD_BYTES
from portico.sandbox.spec import RANGES, SECONDS, NetworkBounds, is_module
from portico.telemetry.log import log_setup

_KEY = re.compile(r"[A-Za-z0-9_-]{32,}")


class CoreSettings(SecretSettings):
    """Settings of one core: each is an option (--live-runs) and a variable (PORTICO_CORE_LIVE_RUNS)."""

    model_config = SettingsConfigDict(
        env_prefix="PORTICO_CORE_",
        frozen=True,
        hide_input_in_errors=True,  # the values include secrets
    )

    listen: list[str] = Field(
        default=["127.0.0.1:50051"],
        description="Address to serve gRPC on: host:port, or unix:/path. May be repeated.",
    )
    auth: bool = Field(
        default=False, description="Whether every call needs a credential: an API key or a JWT."
    )
    insecure_no_auth: bool = Field(
        default=False,
        description="Allow connections from other machines without auth: then every client has full access.",
    )
    admin_key: SecretStr | None = Field(
        default=None,
        description="The API key with admin rights, which can create others: 32 or more letters, digits, "
        "hyphens and underscores.",
    )
    admin_key_file: Path | None = Field(default=None, description="A file that contains the admin key.")
    jwt_issuer: str = Field(
        default="", description="Issuer whose JWTs are accepted; their claim iss must equal it."
    )
    jwt_audience: str = Field(
        default="", description="Audience of accepted JWTs; their claim aud must contain it."
    )
    jwt_jwks_url: str = Field(default="", description="URL of the issuer's public keys (JWKS).")
    jwt_keys_seconds: float = Field(
        default=3600.0,
        ge=30,
        description="Seconds that the last read keys, withdrawn ones too, stay valid while the URL fails.",
    )
    jwt_user_claim: str = Field(default="sub", description="The claim that names the user.")
    jwt_tenant_claim: str = Field(default="tenant", description="The claim that names the tenant.")
    jwt_scope_claim: str = Field(
        default="scope", description="The claim with the scopes, such as portico:read; others are ignored."
    )
    jwt_leeway_seconds: float = Field(
        default=30.0, ge=0, le=600, description="Seconds that the issuer's clock may differ from this one."
    )
    tls_cert: ReadableFile | None = Field(
        default=None, description="Certificate file (PEM, with its chain) for TLS on TCP addresses."
    )
    tls_key: ReadableFile | None = Field(
        default=None, description="File with the certificate's private key (PEM)."
    )
    tls_client_ca: ReadableFile | None = Field(
        default=None,
        description="File of certificate authorities (PEM); clients must have a certificate of one of them.",
    )
    gateway_names: list[str] = Field(
        default=[],
        description="Name in the client certificate of a gateway whose metadata may report its callers' "
        "addresses. May be repeated.",
    )
    running_runs: int | None = Field(
        default=None, ge=1, description="Most runs that execute at once; others wait, and tenants take turns."
    )
    tenant_running_runs: int | None = Field(
        default=None, ge=1, description="Most runs of one tenant that execute at once; others wait."
    )
    user_running_runs: int | None = Field(
        default=None, ge=1, description="Most runs of one user that execute at once; others wait."
    )
    tenant_queued_runs: int | None = Field(
        default=None, ge=0, description="Most waiting runs of one tenant; others are refused."
    )
    user_queued_runs: int | None = Field(
        default=None, ge=0, description="Most waiting runs of one user; others are refused."
    )
    run_wall_seconds: float | None = Field(
        default=None,
        gt=0,
        le=604_800,
        description="Most seconds that a run may take, without its pauses; a request may set less.",
    )
    run_tool_calls: int | None = Field(
        default=None, ge=0, description="Most tool calls that a run may make; a request may set less."
    )
    run_tokens: int | None = Field(
        default=None, ge=0, description="Most tokens that a run may report; a request may set less."
    )
    run_child_runs: int | None = Field(
        default=None, ge=0, description="Most child runs that a run may start; a request may set less."
    )
    tenant_stored_bytes: int | None = Field(
        default=None, ge=1, description="Most bytes that one tenant may store; more are refused."
    )
    user_stored_bytes: int | None = Field(
        default=None, ge=1, description="Most bytes that one user may store; more are refused."
    )
    tenant_requests: float | None = Field(
        default=None, gt=0, description="Most calls and streams per second of one tenant; needs auth."
    )
    user_requests: float | None = Field(
        default=None, gt=0, description="Most calls and streams per second of one user; needs auth."
    )
    store: str = Field(
        default="sqlite:///.portico/portico.db",
        description="Store for runs and all other data: memory://, or sqlite:///path.",
    )
    migration_copy: bool = Field(
        default=True,
        description="Whether to copy a database of an older release before its schema is upgraded.",
    )
    store_key: SecretStr | None = Field(
        default=None,
        description="Key that encrypts stored secrets: 64 hexadecimal digits. Older keys may follow, after "
        "commas; secrets encrypted with one of them are encrypted anew at the start.",
    )
    store_key_file: Path | None = Field(
        default=None, description="A file that contains the store key, or several."
    )
    drain_seconds: float = Field(
        default=10.0, ge=0, description="Seconds after SIGTERM that live runs have to end."
    )
    reader_grace_seconds: float = Field(
        default=30.0, ge=0, description="Seconds without a reader after which a foreground run is cancelled."
    )
    ephemeral_seconds: float = Field(
        default=60.0, ge=0, description="Seconds after its end that an ephemeral run can still be read."
    )
    run_ttl_seconds: float | None = Field(
        default=None, ge=60, description="Seconds after its end until a run is deleted; unset: never."
    )
    session_ttl_seconds: float | None = Field(
        default=None,
        ge=60,
        description="Seconds after its last use until a session and its messages are deleted; unset: never.",
    )
    state_ttl_seconds: float | None = Field(
        default=None, ge=60, description="Seconds after it was saved until a state is deleted; unset: never."
    )
    memory_ttl_seconds: float | None = Field(
        default=None, ge=60, description="Seconds after it was added until a memory is deleted; unset: never."
    )
    live_runs: int = Field(default=20_000, ge=1, description="Most runs that may be live at once.")
    max_message_bytes: int = Field(
        default=16 * 1024 * 1024, ge=64 * 1024, description="Largest gRPC message in bytes, in and out."
    )
    keepalive_seconds: float = Field(
        default=30.0,
        ge=1,
        description="Seconds between pings on an idle connection; clients may ping every 10 s.",
    )
    concurrent_rpcs: int = Field(
        default=20_000, ge=1, description="Most RPCs that may be open at once, streams included."
    )
    sandbox_backend: str = Field(
        default="local",
        description=f"Default sandbox backend: {', '.join(OWN_NAMES)}, one of another package, or "
        f"{NO_BACKEND}.",
    )
    sandbox_backends: list[str] = Field(
        default=[], description="A further backend, which requests may name. May be repeated."
    )
    sandbox_max: int = Field(default=200, ge=1, description="Most sandboxes at once.")
    sandbox_per_user: int = Field(default=100, ge=1, description="Most sandboxes of one user at once.")
    sandbox_per_tenant: int | None = Field(
        default=None, ge=1, description="Most sandboxes of one tenant at once."
    )
    sandbox_pool_size: int = Field(
        default=2, ge=0, le=1_000, description="Size of the warm pool, which fills after the first request."
    )
    sandbox_memory_bytes: int = Field(
        default=2 << 30,
        ge=RANGES["memory_bytes"][0],
        le=RANGES["memory_bytes"][1],
        description="Most memory that a request may set for a sandbox; 512 MiB if it sets none.",
    )
    sandbox_cpus: float = Field(
        default=4.0,
        ge=RANGES["cpus"][0],
        le=RANGES["cpus"][1],
        description="Most CPUs that a request may set for a sandbox; 1 if it sets none.",
    )
    sandbox_processes: int = Field(
        default=1024,
        ge=RANGES["processes"][0],
        le=RANGES["processes"][1],
        description="Most processes that a request may set for a sandbox; 128 if it sets none.",
    )
    sandbox_disk_bytes: int = Field(
        default=2 << 30,
        ge=RANGES["disk_bytes"][0],
        le=RANGES["disk_bytes"][1],
        description="Most disk space that a request may set for a sandbox; 256 MiB if it sets none.",
    )
    sandbox_inodes: int = Field(
        default=262_144,
        ge=RANGES["inodes"][0],
        le=RANGES["inodes"][1],
        description="Most files that a request may set for a sandbox; 16,384 if it sets none.",
    )
    sandbox_output_bytes: int = Field(
        default=64 << 20,
        ge=RANGES["output_bytes"][0],
        le=RANGES["output_bytes"][1],
        description="Most output of a call that a request may set, in bytes; 16 MiB if it sets none.",
    )
    sandbox_call_seconds: float = Field(
        default=3600.0,
        ge=RANGES["call_seconds"][0],
        le=RANGES["call_seconds"][1],
        description="Longest call that a request may set, in seconds; 60 s if it sets none.",
    )
    sandbox_ttl_seconds: float = Field(
        default=86_400.0,
        gt=0,
        le=SECONDS[1],
        description="Most seconds that a sandbox exists; a request may set less.",
    )
    sandbox_idle_seconds: float = Field(
        default=1_800.0,
        gt=0,
        le=SECONDS[1],
        description="Most seconds that a sandbox stays idle before the idle action; a request may set less.",
    )
    sandbox_idle_action: Literal["end", "pause"] = Field(
        default="end",
        description="Idle action unless a request sets one: end it, or pause it until the next call.",
    )
    sandbox_mounts: list[str] = Field(
        default=[],
        description="Directory that sandboxes may mount, with everything below it; with `:rw` writable, with "
        "`:own` writable as the directory's owner. May be repeated.",
    )
    sandbox_network: bool = Field(
        default=True, description="Whether requests may name hosts that a sandbox can reach."
    )
    sandbox_preload: list[str] = Field(
        default=list(PRELOAD),
        description="Module that a request may preload; * allows every installed module. May be repeated.",
    )
    sandbox_network_hosts: list[str] = Field(
        default=[],
        description="Host that requests may name, in the form that they use: pypi.org, *.example.com:8443, "
        "tcp://db.example.com:5432. May be repeated. None: any host.",
    )
    sandbox_network_deny: list[str] = Field(
        default=[],
        description="Host, address or network (CIDR) that no sandbox may reach. May be repeated.",
    )
    sandbox_network_open: list[str] = Field(
        default=[],
        description="Private network (CIDR), such as 10.1.0.0/16, that sandboxes may reach. May be repeated.",
    )
    sandbox_preload_bytes: int = Field(
        default=PRELOAD_BYTES,
        ge=64 << 20,
        description="Most bytes of memory that the modules of one sandbox may take while they preload.",
    )
    sandbox_snapshots: int = Field(default=1_024, ge=0, description="Most snapshots stored at once.")
    sandbox_snapshots_per_user: int = Field(default=64, ge=0, description="Most snapshots of one user.")
    sandbox_snapshots_per_tenant: int | None = Field(
        default=None, ge=0, description="Most snapshots of one tenant."
    )
    sandbox_snapshot_bytes: int = Field(
        default=8 << 30, ge=0, description="Most bytes of all snapshots on this machine's disk."
    )
    sandbox_snapshot_bytes_per_user: int = Field(
        default=2 << 30, ge=0, description="Most bytes of one user's snapshots."
    )
    sandbox_snapshot_bytes_per_tenant: int | None = Field(
        default=None, ge=0, description="Most bytes of one tenant's snapshots."
    )
    reflection: bool = Field(
        default=True, description="Whether to serve gRPC reflection, for tools such as grpcurl."
    )
    metrics_listen: str = Field(
        default="",
        description="Address to serve Prometheus metrics on: host:port; none if empty.",
    )
    audit_log: str = Field(
        default="",
        description="File for the audit log: one JSON line per call with caller and action; none if empty.",
    )
    log_level: log_setup.Level = Field(
        default="info", description="Lowest level of the log on standard error."
    )
    log_format: log_setup.Format = Field(default="human", description="Format of the log: human, or json.")
    log_content: bool = Field(
        default=False, description="Whether the log may contain texts of callers and agents."
    )

    error_words: ErrorAudience | None = Field(
        default=None,
        description="Where the texts of agents' exceptions go: callers; log (callers get the exception's "
        "type and an id that the log has too); or none. Unset: callers if auth is off and only this machine "
        "can connect, else log.",
    )

    @property
    def error_readers(self) -> ErrorAudience:
        """Where the texts of agents' exceptions go, with the default resolved."""
        private = not self.auth and all(map(is_local_grpc_address, self.listen))
        return self.error_words or ("callers" if private else "log")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        name = partial(named, type(self))
        jwt = (self.jwt_issuer, self.jwt_audience, self.jwt_jwks_url)
        if any(jwt) and not all(jwt):
            one, other, third = name("jwt_issuer"), name("jwt_audience"), name("jwt_jwks_url")
            raise ValueError(f"{one}, {other} and {third} go together: set all of them")
        keys = urlsplit(self.jwt_jwks_url)
        if any(jwt) and keys.scheme != "https" and not is_local_grpc_address(f"{keys.hostname}:{keys.port}"):
            raise ValueError(
                f"{name('jwt_jwks_url')} must be https: an attacker who can change the keys can forge tokens"
            )
        if (any(jwt) or self.admin_key is not None) and not self.auth:
            raise ValueError(f"credentials are set but auth is off: turn on {name('auth')}")
        if self.admin_key is not None and not _KEY.fullmatch(self.admin_key.get_secret_value()):
            raise ValueError(f"{name('admin_key')} needs 32 or more letters, digits, hyphens and underscores")
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError(f"{name('tls_cert')} and {name('tls_key')} go together: set both")
        if self.tls_client_ca is not None and self.tls_cert is None:
            raise ValueError(f"{name('tls_client_ca')} needs {name('tls_cert')} and {name('tls_key')}")
        if self.gateway_names and self.tls_client_ca is None:
            raise ValueError(f"{name('gateway_names')} needs {name('tls_client_ca')}")
        if (self.tenant_requests or self.user_requests) and not self.auth:
            raise ValueError(f"rate limits need credentials: turn on {name('auth')}")
        open_to_all = [address for address in self.listen if not is_local_grpc_address(address)]
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
            if not address.startswith(UNIX_PREFIXES):
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
            try:
                known = value == NO_BACKEND or is_backend(name)
            except BackendUnavailable as error:
                raise ValueError(f"has a backend that can't be used: {error.message}") from None
            if not known:
                names = ", ".join(backend_names())
                raise ValueError(f"has an unknown backend {name!r}; expected one of {names}")
        return value

    @field_validator("sandbox_preload")
    @classmethod
    def _are_modules(cls, value: list[str]) -> list[str]:
        for name in value:
            if name != ANY_MODULE and not is_module(name):
                raise ValueError(f"has {name!r}, which is not a module name")
        return value
