"""The OpenAI gateway's settings, from the command line and PORTICO_OPENAI_* variables."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from portico.gateways.http.settings import HttpSettings


class OpenAiSettings(HttpSettings):
    """The settings of the OpenAI gateway."""

    model_config = SettingsConfigDict(env_prefix="PORTICO_OPENAI_", frozen=True)

    websocket_seconds: float = Field(
        default=3600.0, gt=0, description="Seconds after which a WebSocket connection is closed."
    )
