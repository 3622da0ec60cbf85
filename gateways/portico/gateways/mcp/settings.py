"""The MCP gateway's settings, from arguments and PORTICO_MCP_* variables."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from portico.gateways.http.settings import HttpSettings

PATH = "/mcp"


class McpSettings(HttpSettings):
    """Everything that an operator can set."""

    model_config = SettingsConfigDict(env_prefix="PORTICO_MCP_", frozen=True)

    output_characters: int = Field(
        default=100_000, ge=1000, description="How much of a call's output a model is given."
    )
    file_bytes: int = Field(default=1 << 20, ge=1024, description="How much of a file a model is given.")
