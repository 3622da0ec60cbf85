from dataclasses import replace

import pytest

from portico.core.errors import PushConfigNotFound
from portico.core.stores.ports.push_configs import PushRecord, PushStore
from portico.core.stores.ports.stores import Stores


@pytest.fixture
def pushes(stores: Stores) -> PushStore:
    return stores.pushes


def config(run_id: str = "r1", config_id: str = "c1", **more: object) -> PushRecord:
    first = PushRecord(
        run_id, config_id, "https://e.org/päth", "tok", "Bearer", "secret", -1, False, 1.5, "v1", "a2a/0.3"
    )
    return replace(first, **more)  # type: ignore[arg-type]


async def ids(pushes: PushStore, run_id: str, after: str = "", limit: int = 99) -> list[str]:
    return [record.config_id for record in await pushes.list(run_id, after, limit)]


async def test_a_config_is_read_as_it_was_set(pushes: PushStore) -> None:
    await pushes.set(config())
    assert await pushes.get("r1", "c1") == config()
    changed = config(url="http://other", delivered=4, ended=True, created_at=2.0, revision="v2", token="")
    await pushes.set(changed)
    assert await pushes.get("r1", "c1") == changed
    assert await ids(pushes, "r1") == ["c1"]


async def test_what_was_not_set_is_not_found(pushes: PushStore) -> None:
    await pushes.set(config())
    for run_id, config_id in (("r1", "c2"), ("r2", "c1")):
        with pytest.raises(PushConfigNotFound) as caught:
            await pushes.get(run_id, config_id)
        assert caught.value.metadata == {"config_id": config_id}


async def test_a_runs_configs_are_listed_by_id_in_pages(pushes: PushStore) -> None:
    for config_id in ("c", "é", "A", "b"):
        await pushes.set(config(config_id=config_id))
    await pushes.set(config("r2", "x"))
    assert await ids(pushes, "r1") == ["A", "b", "c", "é"]
    assert await ids(pushes, "r1", after="A", limit=2) == ["b", "c"]
    assert await ids(pushes, "nobody") == []


async def test_what_has_ended_is_not_undelivered(pushes: PushStore) -> None:
    await pushes.set(config("r2", "late", created_at=3.0))
    await pushes.set(config("r1", "done", ended=True))
    await pushes.set(config("r1", "early", created_at=2.0))
    assert [record.config_id for record in await pushes.undelivered()] == ["early", "late"]


async def test_what_is_undelivered_comes_oldest_first_and_then_by_its_names(pushes: PushStore) -> None:
    for run_id, config_id, at in (
        ("r2", "c1", 1.0),
        ("r1", "c2", 1.0),
        ("r1", "c1", 1.0),
        ("r9", "c9", 0.5),
        ("r0", "c0", 2.0),
    ):
        await pushes.set(config(run_id, config_id, created_at=at))
    told = [(record.run_id, record.config_id) for record in await pushes.undelivered()]
    assert told == [("r9", "c9"), ("r1", "c1"), ("r1", "c2"), ("r2", "c1"), ("r0", "c0")]


async def test_all_of_all_runs_are_listed_in_pages(pushes: PushStore) -> None:
    assert await pushes.all(None, 10) == []
    places = [("r1", "c2"), ("r2", "c1"), ("r10", "c3"), ("r1", "c1"), ("r2", "é")]
    for number, (run_id, config_id) in enumerate(places):
        await pushes.set(config(run_id, config_id, created_at=float(-number), ended=number % 2 == 0))
    found: list[PushRecord] = []
    after = None
    for size in (2, 2, 1, 0):
        page = await pushes.all(after, 2)
        assert len(page) == size
        found += page
        after = found[-1].run_id, found[-1].config_id
    assert [(record.run_id, record.config_id) for record in found] == sorted(places)
    assert found[0] == config("r1", "c1", created_at=-3.0)


async def test_a_delete_removes_one(pushes: PushStore) -> None:
    await pushes.set(config())
    await pushes.set(config(config_id="c2"))
    assert await pushes.delete("r1", "c1") is True
    assert await pushes.delete("r1", "c1") is False
    assert await ids(pushes, "r1") == ["c2"]


async def test_a_delivery_goes_on_and_never_back(pushes: PushStore) -> None:
    await pushes.set(config())
    assert await pushes.acknowledge("r1", "c1", "v1", 5, False)
    assert await pushes.acknowledge("r1", "c1", "v1", 3, False)
    assert (await pushes.get("r1", "c1")).delivered == 5
    assert await pushes.acknowledge("r1", "c1", "v1", 7, True)
    assert await pushes.acknowledge("r1", "c1", "v1", 7, False)
    record = await pushes.get("r1", "c1")
    assert (record.delivered, record.ended) == (7, True)


async def test_an_earlier_revision_says_nothing_of_a_later_one(pushes: PushStore) -> None:
    await pushes.set(config(revision="v2"))
    assert not await pushes.acknowledge("r1", "c1", "v1", 5, True)
    assert not await pushes.acknowledge("r1", "nobody", "v1", 5, True)
    assert await pushes.get("r1", "c1") == config(revision="v2")


async def test_a_delivery_is_of_one_config_alone(pushes: PushStore) -> None:
    others = [config("r1", "c2"), config("r2", "c1")]
    for each in (config(), *others):
        await pushes.set(each)
    assert await pushes.acknowledge("r1", "c1", "v1", 5, True)
    assert [await pushes.get(each.run_id, each.config_id) for each in others] == others
    assert await pushes.undelivered() == others


async def test_all_of_some_runs_are_deleted(pushes: PushStore) -> None:
    for run_id, config_id in (("r1", "c1"), ("r1", "c2"), ("r2", "c1"), ("r3", "c1")):
        await pushes.set(config(run_id, config_id))
    assert await pushes.delete_all(["r1", "r3", "nope"]) == 3
    assert [record.run_id for record in await pushes.undelivered()] == ["r2"]
    assert await pushes.delete_all([]) == 0
