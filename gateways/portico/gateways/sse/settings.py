"""The SSE gateway's settings, from arguments and PORTICO_SSE_* variables."""

from pydantic import Field, field_validator
from pydantic_settings import SettingsConfigDict

from portico.gateways.http.settings import HttpSettings


class SseSettings(HttpSettings):
    """Everything that an operator can set."""

    model_config = SettingsConfigDict(env_prefix="PORTICO_SSE_", frozen=True)

    process_path: str = Field(default="/process", description="Where runs are started.")

    @field_validator("process_path")
    @classmethod
    def _starts_with_slash(cls, value: str) -> str:
        if not value.startswith("/") or value.endswith("/"):
            raise ValueError("begins with a slash and does not end with one")
        return value
