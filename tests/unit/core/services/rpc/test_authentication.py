"""A core with auth, over its own socket, with the Python client."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from pydantic import ValidationError
from support.identity import ADMIN_KEY, Callers, guarded_core

from portico.agent import AgentApp, Context
from portico.client import (
    Client,
    Multiplexer,
    NotFound,
    PermissionDenied,
    PorticoError,
    Unauthenticated,
    query_request,
)
from portico.core.server.core_server import CoreServer
from portico.core.settings.core_settings import CoreSettings
from portico.process.listen_address import is_local_grpc_address
from portico.v1 import query_pb2


def told() -> AgentApp:
    """Yields the user id that it receives; its endpoint returns the same."""
    app = AgentApp("told")

    @app.query
    async def query(msgs: list[object], context: Context) -> AsyncIterator[str]:
        await context.agent_memory.add("somebody of this tenant was here")
        yield f"{context.user_id} {len(await context.agent_memory.list())}"

    @app.endpoint("/who")
    async def who(user_id: str = "") -> str:
        return user_id

    return app


def bearer(credential: str) -> dict[str, str]:
    return {"authorization": f"Bearer {credential}"} if credential else {}


@pytest.fixture
async def core(tmp_path: Path) -> AsyncIterator[Callers]:
    async with guarded_core([told()], tmp_path) as callers:
        yield callers


async def test_a_call_needs_a_good_credential(core: Callers) -> None:
    async with core.nobody() as nobody:
        with pytest.raises(Unauthenticated):
            await nobody.runs.query("hi").text()
        for credential in ("", "pk_00000000000000000000_wrong", ADMIN_KEY[:-1], "a.b.c"):
            with pytest.raises(Unauthenticated):
                await nobody.with_options(credential=credential).runs.get("resp_1")
        with pytest.raises(Unauthenticated):
            await nobody.with_options(metadata={"authorization": f"Basic {ADMIN_KEY}"}).runs.get("resp_1")
        assert await nobody.healthy()
        agent = await nobody.agents.get()
        assert (agent.needs_credential, len(agent.endpoints)) == (True, 0)
        with pytest.raises(Unauthenticated):
            await nobody.agents.list().page()
        reflection = reflection_pb2_grpc.ServerReflectionStub(nobody.calls.connection.channel)  # type: ignore[no-untyped-call]
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for _ in reflection.ServerReflectionInfo(
                iter([reflection_pb2.ServerReflectionRequest(list_services="")])
            ):
                pass
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert len((await core.admin.agents.get()).endpoints) == 1


async def test_a_bad_credential_is_refused_where_none_is_needed(core: Callers) -> None:
    with pytest.raises(Unauthenticated):
        await core.admin.with_options(credential="pk_wrong").agents.get()


async def test_the_user_is_the_credentials(core: Callers) -> None:
    ada = await core.client("ada", "acme")
    assert await ada.runs.query("hi").text() == "ada 1"
    assert await ada.runs.query("hi", user_id="ada").text() == "ada 2"
    with pytest.raises(PermissionDenied) as caught:
        await ada.runs.query("hi", user_id="bob").text()
    assert caught.value.metadata == {"field": "request.user_id"}
    run = await ada.runs.start("hi")
    assert run.response.user_id == "ada"
    assert (await ada.runs.get(run.response.id)).request.user_id == "ada"
    who = await ada.identity.caller()
    assert who is not None
    assert (who.tenant, who.user_id, list(who.scopes)) == ("acme", "ada", ["read", "use"])
    assert (await ada.agents.call_endpoint("/who", {})).result_json == '"ada"'
    with pytest.raises(PermissionDenied):
        await ada.agents.call_endpoint("/who", {"user_id": "bob"})


async def test_two_tenants_may_have_one_user_each_of_a_name(core: Callers) -> None:
    ours, theirs = await core.client("ada", "acme"), await core.client("ada", "globex")
    await ours.sessions.create(session_id="s")
    await ours.memories.add(["our secret"])
    await ours.states.save({"a": 1}, session_id="s")
    assert await ours.runs.query("hi", session_id="s").text() == "ada 1"
    assert await theirs.runs.query("hi", session_id="s").text() == "ada 1"  # not the other tenant's memory
    with pytest.raises(NotFound):
        await theirs.states.get(session_id="s")
    assert [hit async for hit in theirs.memories.list()] == []
    assert (await theirs.sessions.get("s")).message_count == 2
    assert [run.response.user_id async for run in theirs.runs.list()] == ["ada"]
    assert len([run async for run in core.admin.runs.list()]) == 2


async def test_scopes_say_what_a_credential_may(core: Callers) -> None:
    ada = await core.client("ada", "acme")
    run_id = (await ada.runs.start("hi")).response.id
    reader = await core.client("ada", "acme", "read")
    assert (await reader.runs.get(run_id)).response.id == run_id
    with pytest.raises(PermissionDenied) as caught:
        await reader.runs.start("hi")
    assert caught.value.metadata == {"scope": "use"}
    with pytest.raises(PermissionDenied):
        await ada.identity.list_keys().page()
    server = await core.client("server", "acme", "act-as")
    assert (await server.runs.get(run_id)).response.id == run_id
    assert await server.runs.query("hi", user_id="bob").text() == "bob 2"
    elsewhere = await core.client("server", "globex", "act-as")
    with pytest.raises(NotFound):
        await elsewhere.runs.get(run_id)
    assert await core.admin.runs.query("hi", user_id="tenant:acme:bob").text() == "bob 3"
    with pytest.raises(PorticoError):
        await server.runs.query("hi", user_id="tenant:globex:bob").text()
    gateway = await core.client("gateway", "", "deliver")
    assert (await gateway.runs.get(run_id)).response.id == run_id
    assert await gateway.runs.watch(run_id).text() == "ada 1"
    for refused in (gateway.runs.cancel(run_id), gateway.runs.start("hi"), ada.pushes.claim().asend(None)):
        with pytest.raises(PermissionDenied):
            await refused


async def test_each_stream_of_a_link_is_its_own_callers(core: Callers) -> None:
    keys = {user: await core.key(user, "acme") for user in ("ada", "bob")}

    async def ask(link: Multiplexer, credential: str) -> str:
        with link.open_query(query_request("hi"), metadata=bearer(credential)) as stream:
            async for _ in stream:
                pass
            return stream.run_id

    async with core.nobody() as nobody, Multiplexer(nobody) as link:
        ids = await asyncio.gather(*(ask(link, key) for key in keys.values()))
        for user, run_id in zip(keys, ids, strict=True):
            mine = core.admin.with_options(credential=keys[user])
            assert (await mine.runs.get(run_id)).response.user_id == user
            others = keys["bob" if user == "ada" else "ada"]
            for foreign in (run_id, "resp_unknown"):
                watch = query_pb2.WatchRunRequest(run_id=foreign)
                stream = link.open_watch(watch, metadata=bearer(others))
                with pytest.raises(NotFound) as caught:
                    await stream.next_frames()
                assert caught.value.message == f"no run {foreign!r}"
        for credential in ("", "pk_wrong"):
            with pytest.raises(Unauthenticated):
                await ask(link, credential)
        reader = await core.key("ada", "acme", "read")
        with pytest.raises(PermissionDenied):
            await ask(link, reader)
    async with Client(core.target, credential=keys["ada"]) as ada, Multiplexer(ada) as link:
        assert await ask(link, "") != ""


async def test_a_revoked_key_is_refused_at_once(core: Callers) -> None:
    key, credential = await core.admin.identity.create_key(user_id="ada", name="laptop")
    ada = core.admin.with_options(credential=credential)
    await ada.identity.caller()
    await core.admin.identity.revoke_key(key.key_id)
    with pytest.raises(Unauthenticated):
        await ada.identity.caller()
    listed = await core.admin.identity.list_keys(page_size=1).page()
    assert [(one.name, one.HasField("revoked_time")) for one in listed.keys] == [("laptop", True)]
    with pytest.raises(NotFound):
        await core.admin.identity.revoke_key("pk_none")


async def test_what_was_kept_before_auth_was_on_is_still_there(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path}/portico.db"
    plain = CoreServer(
        [told()], CoreSettings(listen=[f"unix:{tmp_path}/a.sock"], store=store, drain_seconds=0)
    )
    await plain.start()
    async with Client(plain.addresses[0]) as client:
        await client.memories.add(["kept"], user_id="ada")
        assert await client.identity.caller() is None
        with pytest.raises(PorticoError):
            await client.memories.add(["smuggled"], user_id="tenant:acme:ada")
    await plain.stop()
    async with guarded_core([told()], tmp_path, store=store) as core:
        ada = await core.client("ada")
        assert [memory.text async for memory in ada.memories.list()] == ["kept"]


async def test_a_jwt_is_a_credential_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from portico.core.auth.jwks import JwksCache

    key = ec.generate_private_key(ec.SECP256R1())

    async def found(self: JwksCache, kid: str) -> jwt.PyJWK:
        algorithm = jwt.algorithms.ECAlgorithm(jwt.algorithms.ECAlgorithm.SHA256)
        return jwt.PyJWK({**algorithm.to_jwk(key.public_key(), as_dict=True), "alg": "ES256"})

    monkeypatch.setattr(JwksCache, "key", found)
    given = {"jwt_issuer": "us", "jwt_audience": "portico", "jwt_jwks_url": "https://issuer.example/keys"}
    claims = {"iss": "us", "aud": "portico", "sub": "ada", "tenant": "acme", "exp": time.time() + 60}
    token = jwt.encode(claims, key, algorithm="ES256")
    async with guarded_core([told()], tmp_path, **given) as core:
        ada = core.admin.with_options(credential=token)
        # The first stream checks the credential, the second uses the cached result.
        async with core.nobody() as nobody, Multiplexer(nobody) as link:
            for count in (1, 2):
                with link.open_query(
                    query_request("hi"), metadata={"authorization": f"Bearer {token}"}
                ) as stream:
                    async for _ in stream:
                        pass
                assert len([run async for run in ada.runs.list()]) == count
        assert await (await core.client("ada", "acme")).runs.query("hi").text() == "ada 3"


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("127.0.0.1:50051", True),
        ("127.8.8.8:1", True),
        ("localhost:0", True),
        ("[::1]:50051", True),
        ("unix:/run/core.sock", True),
        ("0.0.0.0:50051", False),
        ("[::]:50051", False),
        ("10.0.0.1:50051", False),
        ("example.com:50051", False),
        (":50051", False),
        ("*:50051", False),
    ],
)
def test_an_address_that_others_reach_needs_auth_or_a_word(address: str, local: bool) -> None:
    assert is_local_grpc_address(address) is local
    settings = {"listen": ["127.0.0.1:0", address], "store": "memory://"}
    if local:
        CoreSettings(**settings)  # type: ignore[arg-type]
    else:
        with pytest.raises(ValidationError, match="--insecure-no-auth"):
            CoreSettings(**settings)  # type: ignore[arg-type]
    CoreSettings(**settings, insecure_no_auth=True)  # type: ignore[arg-type]
    CoreSettings(**settings, auth=True, admin_key=ADMIN_KEY)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "settings",
    [
        {"admin_key": ADMIN_KEY},
        {"auth": True, "admin_key": "short"},
        {"auth": True, "jwt_issuer": "us"},
        {"auth": True, "jwt_issuer": "us", "jwt_audience": "a", "jwt_jwks_url": "http://example.com/keys"},
    ],
)
def test_settings_of_auth_that_can_not_work_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        CoreSettings(store="memory://", **settings)  # type: ignore[arg-type]


async def test_a_core_that_nobody_could_call_does_not_start(tmp_path: Path) -> None:
    server = CoreServer(
        [told()], CoreSettings(listen=[f"unix:{tmp_path}/c.sock"], store="memory://", auth=True)
    )
    with pytest.raises(ValueError, match="PORTICO_CORE_ADMIN_KEY"):
        await server.start()
