"""Signs cards: JWS over the card in canonical form (RFC 8785), without its signatures."""

from collections.abc import Callable
from typing import TypeAlias, cast

from a2a.types import a2a_pb2 as a2a
from a2a.utils.signing import ProtectedHeader, create_agent_card_signer
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from portico.gateways.a2a.settings import A2aSettings

Sign: TypeAlias = Callable[[a2a.AgentCard], a2a.AgentCard]

_CURVES = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}


def card_signer(settings: A2aSettings) -> Sign | None:
    """Returns a function that signs a card in place; None without a key. Raises ValueError for an
    unusable key.
    """
    if settings.card_key is None:
        return None
    pem = settings.card_key.get_secret_value().encode()
    key = load_pem_private_key(pem, password=None)
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name in _CURVES:
        algorithm = _CURVES[key.curve.name]
    elif isinstance(key, ed25519.Ed25519PrivateKey):
        algorithm = "EdDSA"
    elif isinstance(key, rsa.RSAPrivateKey):
        algorithm = "RS256"
    else:
        raise ValueError("unsupported type of card key; expected P-256, P-384, P-521, Ed25519 or RSA")
    header = {"alg": algorithm, "kid": settings.card_key_id, "typ": "JOSE"}
    if settings.card_key_url:
        header["jku"] = settings.card_key_url
    return create_agent_card_signer(pem, cast(ProtectedHeader, header))
