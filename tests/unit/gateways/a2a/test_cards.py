"""Agent cards: their content is correct, they can be cached, and are signed if there is a key."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from a2a.types import a2a_pb2 as a2a
from a2a.utils.signing import create_signature_verifier
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from support.a2a_gateways import Gateway, running_core, running_gateway

from portico.gateways.a2a.agent_directory import AgentDirectory
from portico.gateways.a2a.cards import Cards
from portico.gateways.a2a.registration import announce
from portico.gateways.a2a.settings import A2aSettings
from portico.v1 import agent_pb2

pytestmark = pytest.mark.asyncio(loop_scope="module")

CARD = "/.well-known/agent-card.json"


async def get(gateway: Gateway, path: str = CARD, **headers: str) -> httpx.Response:
    return await gateway.http.get(gateway.url + path, headers=headers)


async def test_a_card_says_what_the_agent_says(gateway: Gateway) -> None:
    card = (await get(gateway)).json()
    assert (card["name"], card["description"], card["version"]) == (
        "scripted",
        "does what it is told to",
        "2.1",
    )
    assert card["skills"][0]["id"] == "echo"
    assert card["defaultInputModes"] == ["text/plain", "application/json", "image/*", "application/pdf"]
    assert card["capabilities"]["streaming"] is True
    assert card["capabilities"]["pushNotifications"] is True
    spoken = {(item["protocolBinding"], item["protocolVersion"]) for item in card["supportedInterfaces"]}
    bindings = ("JSONRPC", "HTTP+JSON", "GRPC")
    assert spoken == {(binding, version) for binding in bindings for version in ("1.0", "0.3")}
    # fields that a client of 0.3 reads
    assert (card["protocolVersion"], card["preferredTransport"]) == ("0.3", "JSONRPC")
    assert card["url"] == f"{gateway.url}/a2a"


async def test_every_agent_has_a_card(gateway: Gateway) -> None:
    card = await gateway.card("other")
    assert card.name == "other"
    urls = {item.url for item in card.supported_interfaces if item.protocol_binding != "GRPC"}
    assert urls == {f"{gateway.url}/agents/other/a2a"}
    assert [item.tenant for item in card.supported_interfaces if item.protocol_binding == "GRPC"] == ["other"]
    assert card.skills[0].id == "other"  # an agent without skills has one that stands for itself
    assert (await get(gateway, f"/agents/nobody{CARD}")).status_code == 404


async def test_a_card_can_be_cached(gateway: Gateway) -> None:
    first = await get(gateway)
    assert first.headers["cache-control"] == "public, max-age=60"
    tag = first.headers["etag"]
    for known in (tag, f'"x", {tag}', tag.removeprefix("W/"), "*"):
        again = await get(gateway, **{"if-none-match": known})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert (await get(gateway, **{"if-none-match": '"x"'})).status_code == 200
    assert (await gateway.http.post(gateway.url + CARD)).status_code == 405
    assert (await get(gateway, f"/agents/other{CARD}")).headers["etag"] != tag


def pems(key: Any) -> tuple[str, bytes]:
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return private, key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


KEYS: dict[str, Callable[[], Any]] = {
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ES384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "ES512": lambda: ec.generate_private_key(ec.SECP521R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate,
    "RS256": lambda: rsa.generate_private_key(65537, 2048),
}


@pytest.mark.parametrize("kind", list(KEYS))
async def test_a_card_is_signed(core_directory: Path, kind: str, tmp_path: Path) -> None:
    private, public = pems(KEYS[kind]())
    (tmp_path / "key.pem").write_text(private)
    async with running_gateway(
        core_directory,
        card_key_file=tmp_path / "key.pem",
        card_key_id="k1",
        public_url="https://agents.example/",
    ) as gateway:
        card = await gateway.card()
        asked: list[str | None] = []

        def key_of(kid: str | None, jku: str | None) -> bytes:
            asked.append(kid)
            return public

        create_signature_verifier(key_of, [kind])(card)
        assert asked == ["k1"]
        assert card.supported_interfaces[0].url == "https://agents.example/a2a"
        card.description = "forged"
        with pytest.raises(Exception, match="No valid signature"):
            create_signature_verifier(key_of, [kind])(card)
        first, second = await get(gateway), await get(gateway)
        assert first.headers["etag"] == second.headers["etag"]


async def test_extended_cards_are_for_those_who_have_a_credential(
    core_directory: Path, tmp_path: Path
) -> None:
    more = {"scripted": {"skills": [{"id": "secret", "name": "Secret", "description": "d", "tags": ["t"]}]}}
    (tmp_path / "extended.json").write_text(json.dumps(more))
    async with running_gateway(
        core_directory, extended_card=tmp_path / "extended.json", bearer=True
    ) as gateway:
        card = (await get(gateway)).json()
        assert card["capabilities"]["extendedAgentCard"] is True
        assert "bearer" in card["securitySchemes"]
        url = f"{gateway.url}/a2a/extendedAgentCard"
        version = {"a2a-version": "1.0"}
        assert (await gateway.http.get(url, headers=version)).status_code == 401
        known = await gateway.http.get(url, headers={**version, "authorization": "Bearer x"})
        assert [skill["id"] for skill in known.json()["skills"]] == ["echo", "secret"]
        other = await gateway.http.get(
            f"{gateway.url}/agents/other/a2a/extendedAgentCard",
            headers={**version, "authorization": "Bearer x"},
        )
        assert (other.status_code, other.json()["error"]["details"][0]["reason"]) == (
            400,
            "UNSUPPORTED_OPERATION",
        )


async def test_what_is_off_is_not_offered(core_directory: Path) -> None:
    async with running_gateway(core_directory, push=False, grpc_listen="") as gateway:
        card = (await get(gateway)).json()
        assert card["capabilities"]["pushNotifications"] is False
        assert not any(item["protocolBinding"] == "GRPC" for item in card["supportedInterfaces"])
        call = {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "ListTaskPushNotificationConfigs",
            "params": {"taskId": "x"},
        }
        answer = await gateway.http.post(f"{gateway.url}/a2a", json=call, headers={"a2a-version": "1.0"})
        assert answer.json()["error"]["code"] == -32003
        message = {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": "echo x"}]}
        asked = {
            "message": message,
            "configuration": {"taskPushNotificationConfig": {"url": "https://e.org"}},
        }
        for method in ("SendMessage", "SendStreamingMessage"):
            call = {"jsonrpc": "2.0", "id": 1, "method": method, "params": asked}
            answer = await gateway.http.post(f"{gateway.url}/a2a", json=call, headers={"a2a-version": "1.0"})
            assert answer.json()["error"]["code"] == -32003


async def test_a_registry_is_told_of_every_agent(core_directory: Path, gateway: Gateway) -> None:
    class Registry:
        def __init__(self) -> None:
            self.cards: list[a2a.AgentCard] = []

        async def register(self, card: a2a.AgentCard) -> None:
            self.cards.append(card)

    registry = Registry()
    settings = A2aSettings(public_url="https://agents.example")

    class Known(AgentDirectory):
        async def all(self) -> list[agent_pb2.Agent]:
            return [agent_pb2.Agent(name="a b"), agent_pb2.Agent(name="c")]

    await announce(registry, Known(None), Cards(settings))  # type: ignore[arg-type]
    assert [card.supported_interfaces[0].url for card in registry.cards] == [
        "https://agents.example/agents/a%20b/a2a",
        "https://agents.example/agents/c/a2a",
    ]


async def test_a_core_that_is_away_is_said_to_be(tmp_path: Path) -> None:
    async with (
        running_core(tmp_path),
        running_gateway(tmp_path, core=f"unix:{tmp_path}/nobody.sock") as gateway,
    ):
        assert (await get(gateway)).status_code == 503
