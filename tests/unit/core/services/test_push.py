"""Push configs over gRPC, and the claims of gateways that deliver them."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.a2a_gateways import running_core

from portico.client import Client, InvalidArgument, NotFound
from portico.v1 import push_pb2


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    async with running_core(tmp_path), Client(f"unix:{tmp_path}/core.sock") as client:
        yield client


async def started(client: Client) -> str:
    return (await client.runs.start("quiet")).response.id


def config(run_id: str, config_id: str = "", **more: str) -> push_pb2.PushConfig:
    made = push_pb2.PushConfig(run_id=run_id, config_id=config_id, url="https://e.org")
    for name, value in more.items():
        setattr(made, name, value)
    return made


async def test_a_config_is_set_read_listed_and_deleted(client: Client) -> None:
    run_id = await started(client)
    made = await client.pushes.set(
        config(run_id, token="t", auth_scheme="Bearer", auth_credentials="c", protocol="a2a/0.3")
    )
    assert made.protocol == "a2a/0.3"
    assert made.config_id.startswith("push_")
    assert (made.auth_scheme, made.ended) == ("Bearer", False)
    assert made.delivered_sequence_number >= 0
    assert await client.pushes.get(run_id, made.config_id) == made
    other = await client.pushes.set(config(run_id, "z"), from_start=True)
    assert other.delivered_sequence_number == -1
    assert [item.config_id async for item in client.pushes.list(run_id, page_size=1)] == [made.config_id, "z"]
    for _ in range(2):
        await client.pushes.delete(run_id, "z")
    with pytest.raises(NotFound) as caught:
        await client.pushes.get(run_id, "z")
    assert (caught.value.reason, caught.value.metadata) == ("PUSH_CONFIG_NOT_FOUND", {"config_id": "z"})


async def test_secrets_are_told_to_who_delivers_and_to_nobody_else(client: Client) -> None:
    run_id = await started(client)
    given = config(run_id, "c", token="tok", auth_scheme="Bearer", auth_credentials="cred")
    told = [await client.pushes.set(given), await client.pushes.get(run_id, "c")]
    told += [one async for one in client.pushes.list(run_id)]
    assert len(told) == 3
    for one in told:
        assert (one.token, one.auth_scheme, one.auth_credentials) == ("", "Bearer", "")
    claims = client.pushes.claim()
    [claimed] = (await anext(claims)).configs
    assert (claimed.token, claimed.auth_scheme, claimed.auth_credentials) == ("tok", "Bearer", "cred")
    await claims.aclose()


async def test_what_can_not_be_is_refused(client: Client) -> None:
    run_id = await started(client)
    for wrong in (
        {"url": "ftp://x"},
        {"url": "https://e.org/" + "x" * 2048},
        {"url": "https://ada:secret@e.org/"},
        {"token": "a\nb"},
        {"protocol": "x" * 65},
    ):
        with pytest.raises(InvalidArgument):
            await client.pushes.set(config(run_id, **wrong))
    for call in (
        client.pushes.set(config("resp_nobody")),
        client.pushes.get("resp_nobody", "x"),
        client.pushes.list("resp_nobody").page(),
        client.pushes.delete("resp_nobody", "x"),
    ):
        with pytest.raises(NotFound) as caught:
            await call
        assert caught.value.reason == "RUN_NOT_FOUND"


async def test_each_config_is_one_claimers_until_that_one_leaves(client: Client) -> None:
    run_id = await started(client)
    for number in range(4):
        await client.pushes.set(config(run_id, f"c{number}"))
    one = client.pushes.claim()
    assert {item.config_id for item in (await anext(one)).configs} == {"c0", "c1", "c2", "c3"}
    two = client.pushes.claim()
    assert not (await anext(two)).configs
    made = await client.pushes.set(config(run_id, "c4"))
    assert [item.config_id for item in (await anext(two)).configs] == ["c4"]
    await client.pushes.ack(made, 9)
    await client.pushes.delete(run_id, "c0")
    assert [item.config_id for item in (await anext(one)).removed] == ["c0"]
    await client.pushes.set(config(run_id, "c1", url="https://other.org"))
    assert [item.url for item in (await anext(one)).configs] == ["https://other.org"]
    await two.aclose()
    taken = await anext(one)
    assert [(item.config_id, item.delivered_sequence_number) for item in taken.configs] == [("c4", 9)]
    await client.pushes.ack(made, 12, ended=True)
    await one.aclose()
    await asyncio.sleep(0.1)
    three = client.pushes.claim()
    assert {item.config_id for item in (await anext(three)).configs} == {"c1", "c2", "c3"}
    await three.aclose()
    assert (await client.pushes.get(run_id, "c4")).ended
