"""The settings that all HTTP gateways share."""

from collections.abc import Sequence
from functools import partial
from typing import Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from portico.gateways.http.request.host_origin import check_host, check_origin
from portico.process.secrets import SecretSettings
from portico.process.settings import ReadableFile, named
from portico.telemetry.log import log_setup


class HttpSettings(SecretSettings):
    """The settings of an HTTP gateway, from the command line and PORTICO_HTTP_* variables."""

    model_config = SettingsConfigDict(env_prefix="PORTICO_HTTP_", frozen=True, hide_input_in_errors=True)

    core: str = Field(default="127.0.0.1:50051", description="The core's address: host:port, or unix:/path.")
    core_tls: bool = Field(default=False, description="Whether to connect to the core with TLS.")
    core_ca: ReadableFile | None = Field(
        default=None,
        description="Authorities that the core's certificate is checked against (PEM); unset: the system's.",
    )
    core_cert: ReadableFile | None = Field(
        default=None, description="The gateway's client certificate (PEM), for a core that requires one."
    )
    core_key: ReadableFile | None = Field(
        default=None, description="The client certificate's private key (PEM)."
    )
    tls_cert: ReadableFile | None = Field(
        default=None,
        description="The server's certificate with its chain (PEM); if set, the gateway serves HTTPS.",
    )
    tls_key: ReadableFile | None = Field(
        default=None, description="The server certificate's private key (PEM)."
    )
    insecure_no_auth: bool = Field(
        default=False, description="Whether other machines may be served while the core's auth is off."
    )
    ping_seconds: float = Field(
        default=15.0,
        gt=0,
        description="Seconds without data after which a stream sends a keep-alive comment.",
    )
    cors_origins: list[str] = Field(
        default=[],
        description="Origins whose pages may call the gateway, as JSON; by default only its own.",
    )
    allowed_hosts: list[str] = Field(
        default=[],
        description="More Host headers that are accepted while the core's auth is off, as JSON: names or "
        "name:port. Loopback and the host that the gateway listens on are always accepted.",
    )
    max_body_bytes: int = Field(
        default=8 * 1024 * 1024, ge=1024, description="The largest request body, in bytes."
    )
    resume_seconds: float = Field(
        default=30.0, ge=0, description="Seconds for which streams wait while the core is unreachable."
    )
    metrics: bool = Field(default=False, description="Whether to serve Prometheus metrics on /metrics.")
    log_level: log_setup.Level = Field(
        default="info", description="Least severe level logged to standard error."
    )
    log_format: log_setup.Format = Field(default="human", description="Log format: human or json.")
    log_content: bool = Field(
        default=False, description="Whether logs may contain texts of callers and agents, as in exceptions."
    )

    def other_addresses(self) -> Sequence[str]:
        """Returns the addresses that the gateway listens on in addition to HTTP: host:port, or unix:/path."""
        return ()

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, value: list[str]) -> list[str]:
        return [check_origin(origin) for origin in value]

    @field_validator("allowed_hosts")
    @classmethod
    def _are_hosts(cls, value: list[str]) -> list[str]:
        return [check_host(host) for host in value]

    @model_validator(mode="after")
    def _pairs(self) -> Self:
        name = partial(named, type(self))
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError(f"{name('tls_cert')} and {name('tls_key')} must both be set, or neither")
        if (self.core_cert is None) != (self.core_key is None):
            raise ValueError(f"{name('core_cert')} and {name('core_key')} must both be set, or neither")
        if (self.core_ca or self.core_cert) and not self.core_tls:
            raise ValueError(f"{name('core_ca')} and {name('core_cert')} require {name('core_tls')}")
        return self
