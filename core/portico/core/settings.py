"""A core's settings. Built once, in __main__, from arguments and PORTICO_CORE_* variables; passed down."""

from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class CoreSettings(BaseSettings):
    """Everything that an operator can set."""

    model_config = SettingsConfigDict(env_prefix="PORTICO_CORE_", frozen=True)

    listen: list[str] = Field(
        default=["127.0.0.1:50051"],
        description="Where to serve gRPC: host:port, or unix:/path. Several are served alike.",
    )
    store: str = Field(
        default="sqlite:///.portico/portico.db",
        description="Where runs and everything else live: memory://, or sqlite:///path.",
    )
    drain_seconds: float = Field(
        default=10.0, ge=0, description="After SIGTERM: how long runs may go on before streams are cut."
    )
    reader_grace_seconds: float = Field(
        default=30.0, ge=0, description="How long a foreground run goes on when nobody reads it."
    )
    ephemeral_seconds: float = Field(
        default=60.0, ge=0, description="How long an ephemeral run can still be read after its end."
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
    reflection: bool = Field(default=True, description="Whether to tell the contract to tools like grpcurl.")
    traces: bool = Field(
        default=False, description="Whether to make an OpenTelemetry span of every RPC (needs an SDK set up)."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="What goes to standard error."
    )
