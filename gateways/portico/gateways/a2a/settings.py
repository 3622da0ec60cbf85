"""The A2A gateway's settings, from arguments and PORTICO_A2A_* variables."""

from pathlib import Path

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import SettingsConfigDict

from portico.gateways.http.settings import HttpSettings
from portico.process.settings import ReadableFile, check_address


class A2aSettings(HttpSettings):
    """Everything that an operator can set."""

    model_config = SettingsConfigDict(env_prefix="PORTICO_A2A_", frozen=True)

    grpc_listen: str = Field(default="", description="host:port of the gRPC binding; unset: none.")
    grpc_url: str = Field(default="", description="What cards say of it, if that differs: host:port.")
    public_url: str = Field(default="", description="The site's URL in cards; unset: as the caller has it.")
    card_max_age: int = Field(default=60, ge=0, description="How many seconds a card may be cached.")
    card_key: SecretStr | None = Field(
        default=None, description="A private key (PEM) that signs cards; unset: cards are not signed."
    )
    card_key_file: Path | None = Field(default=None, description="A file with that key.")
    card_key_id: str = Field(default="portico", description="The key's id (kid) in signatures.")
    card_key_url: str = Field(default="", description="Where the public key is (jku), if anywhere.")
    bearer: bool = Field(default=False, description="Whether cards ask for a bearer token.")
    extended_card: ReadableFile | None = Field(
        default=None, description="JSON of what authenticated callers are told beside the card, by agent."
    )
    credential: SecretStr | None = Field(
        default=None, description="The key with which notifications are delivered: scope deliver."
    )
    credential_file: Path | None = Field(default=None, description="A file with that key.")
    push: bool = Field(default=True, description="Whether this gateway offers and delivers notifications.")
    push_allow: list[str] = Field(
        default=[], description="Networks and hosts, else refused as private, that may be notified, as JSON."
    )
    push_seconds: float = Field(
        default=3600.0, gt=0, description="How long a receiver that fails is tried before it is given up."
    )
    push_timeout: float = Field(default=10.0, gt=0, description="How long a receiver may take to answer.")

    @field_validator("grpc_listen")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        return check_address(value) if value and not value.startswith("unix:") else value
