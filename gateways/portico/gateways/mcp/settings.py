"""The MCP gateway's settings, from the command line and PORTICO_MCP_* variables."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from portico.gateways.http.settings import HttpSettings

PATH = "/mcp"


class McpSettings(HttpSettings):
    """The settings of the MCP gateway."""

    model_config = SettingsConfigDict(env_prefix="PORTICO_MCP_", frozen=True)

    output_characters: int = Field(
        default=100_000, ge=1000, description="The most characters of a call's output in a result."
    )
    file_bytes: int = Field(default=1 << 20, ge=1024, description="The most bytes of a file in a result.")
