"""The SSE gateway's settings, from arguments and PORTICO_SSE_* variables."""

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class SseSettings(BaseSettings):
    """Everything that an operator can set."""

    model_config = SettingsConfigDict(env_prefix="PORTICO_SSE_", frozen=True)

    core: str = Field(default="127.0.0.1:50051", description="The core: host:port, or unix:/path.")
    process_path: str = Field(default="/process", description="Where runs are started.")
    ping_seconds: float = Field(
        default=15.0, gt=0, description="How long a stream may be silent before it gets a comment."
    )
    cors_origins: list[str] = Field(
        default=[], description="Origins that browsers may call from, as JSON; none by default."
    )
    max_body_bytes: int = Field(default=8 * 1024 * 1024, ge=1024, description="The largest request body.")
    resume_seconds: float = Field(
        default=30.0, ge=0, description="How long streams wait for a core that has gone away."
    )

    @field_validator("process_path")
    @classmethod
    def _starts_with_slash(cls, value: str) -> str:
        if not value.startswith("/") or value.endswith("/"):
            raise ValueError("begins with a slash and does not end with one")
        return value
