"""The A2A gateway's settings, from the command line and PORTICO_A2A_* variables."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import SettingsConfigDict

from portico.gateways.http.settings import HttpSettings
from portico.process.settings import ReadableFile, check_address


class A2aSettings(HttpSettings):
    """The settings of the A2A gateway."""

    model_config = SettingsConfigDict(env_prefix="PORTICO_A2A_", frozen=True)

    grpc_listen: str = Field(
        default="", description="host:port for the gRPC binding; unset: no gRPC binding."
    )
    grpc_url: str = Field(default="", description="host:port of the gRPC binding in cards, if it differs.")
    public_url: str = Field(
        default="", description="The site's URL in cards; unset: the URL that the caller used."
    )
    card_max_age: int = Field(default=60, ge=0, description="Seconds for which clients may cache a card.")
    card_key: SecretStr | None = Field(
        default=None, description="A private key (PEM) that signs cards; unset: cards are not signed."
    )
    card_key_file: Path | None = Field(default=None, description="A file with the card key.")
    card_key_id: str = Field(default="portico", description="The key's id (kid) in signatures.")
    card_key_url: str = Field(default="", description="URL of the public key (jku) in signatures.")
    bearer: bool = Field(default=False, description="Whether cards require a bearer token.")
    extended_card: ReadableFile | None = Field(
        default=None,
        description="JSON file: agent names to additional card content for authenticated callers.",
    )
    credential: SecretStr | None = Field(
        default=None, description="API key for delivering notifications; requires the scope deliver."
    )
    credential_file: Path | None = Field(default=None, description="A file with the API key.")
    push: bool = Field(default=True, description="Whether this gateway offers and delivers notifications.")
    push_allow: list[str] = Field(
        default=[], description="Non-public networks and hosts that may be notified, as JSON."
    )
    push_seconds: float = Field(
        default=3600.0, gt=0, description="Seconds for which a failing receiver is retried."
    )
    push_timeout: float = Field(default=10.0, gt=0, description="Seconds in which a receiver must answer.")

    @field_validator("grpc_listen")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        return check_address(value) if value and not value.startswith("unix:") else value

    def other_addresses(self) -> Sequence[str]:
        return (self.grpc_listen,) if self.grpc_listen else ()
