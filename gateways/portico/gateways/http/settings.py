"""The settings that every HTTP gateway has."""

from functools import partial
from typing import Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from portico.gateways.http.authority import check_host, check_origin
from portico.process.secrets import SecretSettings
from portico.process.settings import ReadableFile, named
from portico.telemetry import logs


class HttpSettings(SecretSettings):
    """What an operator can set, from arguments and PORTICO_HTTP_* variables."""

    model_config = SettingsConfigDict(env_prefix="PORTICO_HTTP_", frozen=True, hide_input_in_errors=True)

    core: str = Field(default="127.0.0.1:50051", description="The core: host:port, or unix:/path.")
    core_tls: bool = Field(default=False, description="Whether the core is reached by TLS.")
    core_ca: ReadableFile | None = Field(
        default=None, description="Whose certificate the core has (PEM); unset: the system's authorities."
    )
    core_cert: ReadableFile | None = Field(
        default=None, description="The certificate that this gateway shows the core (PEM), if it wants one."
    )
    core_key: ReadableFile | None = Field(default=None, description="Its private key (PEM).")
    tls_cert: ReadableFile | None = Field(
        default=None, description="A certificate (PEM, with its chain): what is served is HTTPS then."
    )
    tls_key: ReadableFile | None = Field(default=None, description="The certificate's private key (PEM).")
    insecure_no_auth: bool = Field(
        default=False, description="Whether to serve other machines before a core whose auth is off."
    )
    ping_seconds: float = Field(
        default=15.0, gt=0, description="How long a stream may be silent before it gets a comment."
    )
    cors_origins: list[str] = Field(
        default=[],
        description="Origins whose pages may call, as JSON; by default only the gateway's own.",
    )
    allowed_hosts: list[str] = Field(
        default=[],
        description="More Host headers that are answered while the core's auth is off, as JSON: names or "
        "name:port. Loopback and the host that is served are answered anyway.",
    )
    max_body_bytes: int = Field(default=8 * 1024 * 1024, ge=1024, description="The largest request body.")
    resume_seconds: float = Field(
        default=30.0, ge=0, description="How long streams wait for a core that has gone away."
    )
    metrics: bool = Field(
        default=False, description="Whether to tell Prometheus on /metrics what this process does."
    )
    log_level: logs.Level = Field(default="info", description="What goes to standard error.")
    log_format: logs.Format = Field(default="human", description="As what: human, or json.")
    log_content: bool = Field(
        default=False, description="Whether what callers and agents say may be in it, as in exceptions."
    )

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
            raise ValueError(f"{name('tls_cert')} and {name('tls_key')} go together: set both")
        if (self.core_cert is None) != (self.core_key is None):
            raise ValueError(f"{name('core_cert')} and {name('core_key')} go together: set both")
        if (self.core_ca or self.core_cert) and not self.core_tls:
            raise ValueError(f"{name('core_ca')} and {name('core_cert')} need {name('core_tls')}")
        return self
