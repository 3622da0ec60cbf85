"""JWTs: which are valid, and how the issuer's keys are read and withdrawn. The issuer is an HTTP server."""

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from portico.core.auth import jwks, jwt_verifier
from portico.core.auth.jwt_verifier import JwtIssuer, JwtVerifier
from portico.core.errors import IssuerUnavailable, Unauthenticated
from portico.model.identity import make_principal


class ScriptedIssuer:
    """Serves public keys; counts the requests."""

    def __init__(self) -> None:
        self.keys: dict[str, ec.EllipticCurvePrivateKey] = {}
        self.asked = 0
        self.broken = False
        self.says: bytes | None = None  # response body instead of the keys
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.asked += 1
                self.send_response(500 if issuer.broken else 200)
                self.end_headers()
                self.wfile.write(issuer.document())

            def log_message(self, format: str, *arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/keys"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def document(self) -> bytes:
        if self.says is not None:
            return self.says
        algorithm = jwt.algorithms.ECAlgorithm(jwt.algorithms.ECAlgorithm.SHA256)
        keys = []
        for kid, key in self.keys.items():
            told = json.loads(algorithm.to_jwk(key.public_key()))
            keys.append({**told, "kid": kid, "alg": "ES256", "use": "sig"})
        return json.dumps({"keys": keys}).encode()

    def rotate(self, *kids: str) -> None:
        self.keys = {kid: self.keys.get(kid) or ec.generate_private_key(ec.SECP256R1()) for kid in kids}

    def token(self, kid: str = "one", **claims: Any) -> str:
        now = time.time()
        about = {"iss": "us", "aud": "portico", "sub": "ada", "exp": now + 600, **claims}
        given = {name: value for name, value in about.items() if value is not None}
        return jwt.encode(given, self.keys[kid], algorithm="ES256", headers={"kid": kid})

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def issuer() -> Iterator[ScriptedIssuer]:
    issuer = ScriptedIssuer()
    issuer.rotate("one")
    yield issuer
    issuer.stop()


@pytest.fixture
def checking(issuer: ScriptedIssuer) -> JwtVerifier:
    return JwtVerifier(JwtIssuer("us", "portico", issuer.url))


async def test_a_token_says_who_it_is_and_is_remembered(
    issuer: ScriptedIssuer, checking: JwtVerifier
) -> None:
    token = issuer.token(tenant="acme", scope="openid portico:read portico:nonsense")
    assert checking.remembered(token) is None
    found = await checking.check(token)
    assert found == make_principal("acme", "ada", frozenset(("read",)))
    assert checking.remembered(token) == found
    assert (await checking.check(issuer.token(scope=["portico:act-as"]))).scopes == {"act-as", "use", "read"}
    assert (await checking.check(issuer.token(scope=7))).scopes == {"use", "read"}
    assert issuer.asked == 1


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "them"},
        {"aud": "others"},
        {"aud": None},
        {"exp": None},
        {"exp": time.time() - 3600},
        {"nbf": time.time() + 3600},
        {"sub": None},
        {"sub": "agent:friday"},
        {"sub": 7},
        {"tenant": "a/b"},
        {"tenant": ["acme"]},
    ],
)
async def test_a_token_that_is_not_for_us_is_refused(
    issuer: ScriptedIssuer, checking: JwtVerifier, claims: dict[str, Any]
) -> None:
    token = issuer.token(**claims)
    with pytest.raises(Unauthenticated):
        await checking.check(token)
    assert checking.remembered(token) is None


async def test_clocks_may_differ_a_little(issuer: ScriptedIssuer, checking: JwtVerifier) -> None:
    now = time.time()
    await checking.check(issuer.token(exp=now - 10, nbf=now + 10, iat=now + 10))


async def test_nobody_can_choose_the_algorithm(issuer: ScriptedIssuer, checking: JwtVerifier) -> None:
    claims = {"iss": "us", "aud": "portico", "sub": "ada", "exp": time.time() + 600}
    forged = jwt.encode(
        claims, "a secret of 32 characters or more", algorithm="HS256", headers={"kid": "one"}
    )
    unsigned = jwt.encode(claims, "", algorithm="none", headers={"kid": "one"})
    good = issuer.token()
    issuer.rotate("other")
    others = issuer.token("other")
    for token in (forged, unsigned, others.replace(others.split(".")[0], good.split(".")[0]), "a.b.c", ".."):
        with pytest.raises(Unauthenticated):
            await checking.check(token)


async def test_new_keys_are_found_and_withdrawn_ones_forgotten(
    issuer: ScriptedIssuer, checking: JwtVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = issuer.token()
    await checking.check(old)
    issuer.rotate("one", "two")
    monkeypatch.setattr(jwks, "MIN_REFETCH_SECONDS", 0.0)
    await checking.check(issuer.token("two"))
    assert issuer.asked == 2
    issuer.rotate("two")
    monkeypatch.setattr(jwks, "FRESH_SECONDS", 0.0)
    with pytest.raises(Unauthenticated):
        await checking.check(old)


async def test_unknown_keys_do_not_make_a_flood_of_fetches(
    issuer: ScriptedIssuer, checking: JwtVerifier
) -> None:
    issuer.rotate("one", "two")
    stray = issuer.token("two")
    issuer.rotate("one")
    for _ in range(20):
        with pytest.raises(Unauthenticated):
            await checking.check(stray)
    assert issuer.asked == 1


async def test_an_issuer_that_is_away_is_no_reason_to_refuse_known_keys(
    issuer: ScriptedIssuer, checking: JwtVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jwks, "MIN_REFETCH_SECONDS", 0.0)
    monkeypatch.setattr(jwks, "FRESH_SECONDS", 0.0)
    issuer.broken = True
    with pytest.raises(IssuerUnavailable):
        await checking.check(issuer.token())
    issuer.broken = False
    await checking.check(issuer.token())
    issuer.broken = True
    await checking.check(issuer.token(sub="bob"))


async def test_keys_of_an_issuer_that_stays_away_are_good_for_a_bounded_time(
    issuer: ScriptedIssuer,
    checking: JwtVerifier,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    remembered = issuer.token()
    await checking.check(remembered)
    issuer.broken = True
    now, skipped = time.monotonic, 3600.0 - 60
    monkeypatch.setattr(time, "monotonic", lambda: now() + skipped)
    late = issuer.token(sub="bob")
    await checking.check(late)
    assert "stay valid for 59 s" in caplog.text or "stay valid for 60 s" in caplog.text
    skipped = 3600.0
    assert checking.remembered(late) is None  # though it was checked less than a minute ago
    for _ in range(3):
        with pytest.raises(IssuerUnavailable):
            await checking.check(late)
    assert caplog.text.count("tokens are refused until they can be read") == 1
    issuer.broken = False
    skipped += jwks.MIN_REFETCH_SECONDS + 1
    await checking.check(late)


async def test_all_keys_may_be_withdrawn(
    issuer: ScriptedIssuer, checking: JwtVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = issuer.token()
    await checking.check(token)
    issuer.rotate()
    monkeypatch.setattr(jwks, "MIN_REFETCH_SECONDS", 0.0)
    monkeypatch.setattr(jwks, "FRESH_SECONDS", 0.0)
    with pytest.raises(Unauthenticated):
        await checking.check(token)


@pytest.mark.parametrize(
    "says",
    [
        b"",
        b"nonsense",
        b"[]",
        b"{}",
        b'{"keys": 7}',
        b'{"keys": [7, "x", null]}',
        b'{"keys": [{"kty": "EC", "crv": "P-256", "x": 7, "y": [], "kid": "one"}]}',
        b'{"keys": [{"kty": 7, "kid": ["one"]}]}',
        b'{"keys": ' + b"[" * 100_000,
        b" " * (jwks.MAX_BYTES + 1),
    ],
)
async def test_what_is_no_set_of_keys_takes_none_away(
    issuer: ScriptedIssuer, checking: JwtVerifier, monkeypatch: pytest.MonkeyPatch, says: bytes
) -> None:
    await checking.check(issuer.token())
    monkeypatch.setattr(jwks, "MIN_REFETCH_SECONDS", 0.0)
    monkeypatch.setattr(jwks, "FRESH_SECONDS", 0.0)
    issuer.says = says
    await checking.check(issuer.token(sub="bob"))


async def test_what_is_remembered_is_bounded_and_expires(
    issuer: ScriptedIssuer, checking: JwtVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jwt_verifier, "REMEMBERED", 3)
    given = [issuer.token(sub=f"user{number}") for number in range(5)]
    for token in given:
        await checking.check(token)
    assert [checking.remembered(token) is None for token in given] == [True, True, False, False, False]
    # A clock that is set back makes it no longer.
    before, later = time.time() - 3600, time.monotonic() + jwt_verifier.REMEMBERED_SECONDS + 1
    monkeypatch.setattr(time, "time", lambda: before)
    assert checking.remembered(given[-1]) is not None
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert checking.remembered(given[-1]) is None


async def test_what_is_remembered_expires_by_its_own_date_too(
    issuer: ScriptedIssuer, checking: JwtVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = issuer.token(exp=time.time() + 600)
    await checking.check(token)
    later = time.time() + 700
    monkeypatch.setattr(time, "time", lambda: later)
    assert checking.remembered(token) is None
