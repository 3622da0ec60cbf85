"""The SSE gateway's settings, from the command line and PORTICO_SSE_* variables."""

from pydantic import Field, field_validator
from pydantic_settings import SettingsConfigDict

from portico.gateways.http.settings import HttpSettings
from portico.gateways.sse.ports.header_filter import extra_name


class SseSettings(HttpSettings):
    """The settings of the SSE gateway."""

    model_config = SettingsConfigDict(env_prefix="PORTICO_SSE_", frozen=True)

    process_path: str = Field(default="/process", description="The path that starts runs.")

    port_answer_seconds: float = Field(
        default=60.0, gt=0, description="Seconds in which a server in a sandbox must begin its answer."
    )
    port_idle_seconds: float = Field(
        default=300.0, gt=0, description="Seconds without data after which its answer is ended."
    )
    port_message_bytes: int = Field(
        default=4 * 1024 * 1024,
        ge=1024,
        le=16 * 1024 * 1024,  # uvicorn's own limit
        description="The largest message of a WebSocket to a sandbox, in bytes.",
    )
    port_request_headers: list[str] = Field(
        default=[], description="More header fields that pass to servers in sandboxes, as JSON."
    )
    port_response_headers: list[str] = Field(
        default=[], description="More header fields that pass from servers in sandboxes, as JSON."
    )

    @field_validator("port_request_headers", "port_response_headers")
    @classmethod
    def _may_pass(cls, value: list[str]) -> list[str]:
        return [extra_name(name) for name in value]

    @field_validator("process_path")
    @classmethod
    def _starts_with_slash(cls, value: str) -> str:
        if not value.startswith("/") or value.endswith("/"):
            raise ValueError("must begin with a slash and not end with one")
        return value
