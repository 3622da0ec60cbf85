"""ForgetUser: no data of the user can be read or found in a file; other users' data stays."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.foreign_caller import SECRET, TENANT, USER, Estate, estate, keeper
from support.serving import running_core

from portico.client import Client, InvalidArgument, NotFound, PermissionDenied, SyncClient, Unauthenticated
from portico.core.services.rpc import audit_log
from portico.v1 import identity_pb2

EVERYTHING = identity_pb2.ForgetUserResponse(
    runs=2,
    sessions=2,
    messages=5,
    states=1,
    memories=1,
    push_configs=1,
    sandboxes=1,
    snapshots=1,
    keys=2,
)
OWNER = f"tenant:{TENANT}:{USER}"


@pytest.fixture(params=["memory", "sqlite"])
async def owned(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Estate]:
    store = "memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/portico.db"
    async with estate(tmp_path, store=store) as everything:
        yield everything


def told(directory: Path) -> list[str]:
    return [
        file.name for file in directory.glob("portico.db*") if SECRET.encode() in file.read_bytes().lower()
    ]


async def counts(client: Client) -> list[int]:
    return [
        len([one async for one in client.runs.list(user_id=OWNER)]),
        len([one async for one in client.sessions.list(user_id=OWNER)]),
        len([one async for one in client.states.list(user_id=OWNER)]),
        len([one async for one in client.memories.list(user_id=OWNER)]),
        len([one async for one in client.sandboxes.list(user_id=OWNER)]),
        len(await client.sessions.search(SECRET, user_id=OWNER)),
        len(await client.memories.search(SECRET, user_id=OWNER)),
    ]


async def test_an_operator_has_a_user_forgotten_and_nothing_of_it_is_left(
    owned: Estate, tmp_path: Path
) -> None:
    admin, names = owned.core.admin, owned.names
    other = await owned.core.client("bob", TENANT)
    await other.memories.add(["granite"])
    kept = await other.runs.start("granite", session_id="seance")
    assert "granite" in await other.runs.watch(kept.response.id).text()
    in_files = told(tmp_path)
    assert await admin.identity.forget_user(OWNER) == EVERYTHING
    assert await counts(admin) == [0] * 7
    for gone in (
        admin.runs.get(names["run"]),
        admin.runs.get(names["live"]),
        admin.sandboxes.get(names["sandbox"]),
        admin.sandboxes.delete_snapshot(names["snapshot"]),
        admin.pushes.get(names["run"], names["config"]),
    ):
        with pytest.raises(NotFound):
            await gone
    with pytest.raises(Unauthenticated):
        await owned.owner.identity.caller()
    assert told(tmp_path) == []
    assert await admin.identity.forget_user(OWNER) == identity_pb2.ForgetUserResponse()
    # Other users have lost nothing.
    assert "granite" in str((await other.runs.get(kept.response.id)).response)
    assert len(await other.memories.search("granite")) == 1
    assert len([one async for one in other.sessions.list_messages("seance")]) == 2
    if (tmp_path / "portico.db").exists():
        assert in_files  # the search would have found the word


async def test_a_user_may_have_itself_forgotten_and_its_back_end_may(owned: Estate) -> None:
    stranger = await owned.core.client("eve", TENANT)
    with pytest.raises(PermissionDenied):
        await stranger.identity.forget_user(USER)
    with pytest.raises(PermissionDenied):
        await (await owned.core.client("eve", TENANT, "read")).identity.forget_user()
    elsewhere = await owned.core.client("service", "globex", "act-as")
    assert await elsewhere.identity.forget_user(USER) == identity_pb2.ForgetUserResponse()
    await owned.intact()
    back_end = await owned.core.client("service", TENANT, "act-as")
    assert await back_end.identity.forget_user(USER) == EVERYTHING
    assert (await stranger.identity.forget_user()).keys == 2
    with pytest.raises(Unauthenticated):
        await stranger.identity.caller()


async def test_deliverers_are_told_that_there_is_nothing_to_deliver(owned: Estate) -> None:
    gateway = await owned.core.client("gateway", "", "deliver")
    claims = gateway.pushes.claim()
    first = await anext(claims)
    assert [config.config_id for config in first.configs] == [owned.names["config"]]
    await owned.core.admin.identity.forget_user(OWNER)
    then = await anext(claims)
    assert [config.config_id for config in then.removed] == [owned.names["config"]]
    await claims.aclose()


async def test_the_audit_says_that_somebody_was_forgotten_and_nothing_else(
    owned: Estate, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[bytes] = []
    with audit_log.write_audit_to(told.append):
        await owned.core.admin.identity.forget_user(OWNER)
    [line] = told
    assert b'"action":"delete","method":"ForgetUser","outcome":"OK"' in line
    assert OWNER.encode() in line
    assert SECRET not in f"{line!r} {caplog.text}"


async def test_without_auth_somebody_must_be_named(tmp_path: Path) -> None:
    async with running_core([keeper()], tmp_path) as server, Client(server.addresses[0]) as client:
        with pytest.raises(InvalidArgument):
            await client.identity.forget_user()
        await client.memories.add([SECRET], user_id="ada")
        assert (await client.identity.forget_user("ada")).memories == 1
        await client.memories.add([SECRET], user_id="ada")

        def without_async() -> identity_pb2.ForgetUserResponse:
            with SyncClient(server.addresses[0]) as blocking:
                return blocking.identity.forget_user("ada")

        assert (await asyncio.to_thread(without_async)).memories == 1
