"""Templates: their number, their users, and which of them are dropped."""

import asyncio
from collections.abc import AsyncIterator, Collection
from pathlib import Path

import pytest
from support.syscall_traces import no_traces, traces

from portico.sandbox import errors
from portico.sandbox.local import templates, zygotes
from portico.sandbox.local.backend import LocalBackend, LocalSettings
from portico.sandbox.local.local_sandbox import LocalBox
from portico.sandbox.manager.sandbox_manager import SandboxManager
from portico.sandbox.spec import Mount, Spec

MODULES = "calendar", "colorsys", "csv", "decimal", "fractions", "glob"


@pytest.fixture
async def few(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[LocalBackend]:
    """A backend with at most four templates, and three per user."""
    monkeypatch.setattr(templates, "MAX_TEMPLATES", 4)
    monkeypatch.setattr(templates, "MAX_TEMPLATES_PER_USER", 3)
    async with LocalBackend(LocalSettings(spares=1)) as backend:
        yield backend
    assert await no_traces(), traces()


def there(backend: LocalBackend) -> set[str]:
    """The preloaded modules of all templates."""
    return {module for _, modules in backend._templates._templates for module in modules}


async def settled(backend: LocalBackend) -> int:
    """The number of zygotes after dropped ones have ended."""
    async with asyncio.timeout(20):
        while backend._templates._ending:
            await asyncio.sleep(0.01)
    return backend.templates


async def use(backend: LocalBackend, user: str, modules: Collection[str]) -> None:
    """Creates and destroys a sandbox for each module, one after the other."""
    for module in modules:
        await (await backend.create(Spec(preload=(module,)), user_id=user)).destroy()


async def make(backend: LocalBackend, user: str, module: str) -> LocalBox:
    return await backend.create(Spec(preload=(module,)), user_id=user)


async def test_the_same_modules_and_mounts_have_one_zygote(backend: LocalBackend, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    mounts = Mount(str(tmp_path), "/a"), Mount(str(tmp_path), "/b")
    specs = [
        Spec(preload=("decimal", "csv"), mounts=mounts),
        Spec(preload=("csv", "decimal", "csv"), mounts=mounts[::-1]),
    ]
    boxes = [await backend.create(spec) for spec in specs]
    assert backend._zygote_of[boxes[0].id] is backend._zygote_of[boxes[1].id]
    assert backend.templates == 2  # including the plain one


async def test_the_least_recently_used_gives_way(few: LocalBackend) -> None:
    await use(few, "", MODULES[:4])
    await use(few, "", [MODULES[0], MODULES[4]])
    assert there(few) == {MODULES[number] for number in (0, 2, 3, 4)}
    assert await settled(few) == 5
    assert len(few._templates.demand.pools) == 5
    assert (await (await few.create(Spec())).run_cell("1")).ok


async def test_what_nobody_asks_for_any_more_ends(few: LocalBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    box = await make(few, "", MODULES[0])
    await use(few, "", MODULES[1:2])
    few._templates._look()
    assert there(few) == set(MODULES[:2])
    monkeypatch.setattr(templates, "IDLE_SECONDS", 0.0)
    few._templates._look()
    assert there(few) == {MODULES[0]}
    assert await settled(few) == 2
    assert (await box.run_cell("1")).ok


async def test_templates_in_use_stay_and_one_more_is_refused(few: LocalBackend) -> None:
    boxes = [await make(few, "", module) for module in MODULES[:4]]
    with pytest.raises(errors.LimitExceeded, match="sets of mounts and preloaded modules") as refused:
        await make(few, "", MODULES[4])
    assert refused.value.limit == "templates"
    again = await make(few, "", MODULES[0])
    assert all([(await box.run_cell("1")).ok for box in (*boxes, again, await few.create(Spec()))])
    await boxes[1].destroy()
    await make(few, "", MODULES[4])
    assert there(few) == {MODULES[number] for number in (0, 2, 3, 4)}


async def test_no_user_takes_all(few: LocalBackend) -> None:
    boxes = [await make(few, "ann", module) for module in MODULES[:3]]
    with pytest.raises(errors.LimitExceeded, match="the user's sandboxes"):
        await make(few, "ann", MODULES[3])
    assert (await (await make(few, "bob", MODULES[4])).run_cell("1")).ok
    await boxes[0].destroy()
    await make(few, "ann", MODULES[3])  # replaces one of ann's
    assert there(few) == {MODULES[number] for number in (1, 2, 3, 4)}


async def test_a_managers_user_is_whose_template_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(templates, "MAX_TEMPLATES_PER_USER", 1)
    async with SandboxManager({"local": LocalBackend(LocalSettings(spares=0))}) as manager:
        await manager.create(Spec(preload=MODULES[:1]), user_id="ann")
        with pytest.raises(errors.LimitExceeded, match="the user's sandboxes"):
            await manager.create(Spec(preload=MODULES[1:2]), user_id="ann")
        await manager.create(Spec(preload=MODULES[1:2]), user_id="bob")


async def test_a_template_that_others_have_made_counts_and_stays_open_to_all(
    few: LocalBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(templates, "MAX_TEMPLATES_PER_USER", 1)
    boxes = [await make(few, "ann", MODULES[0]), await make(few, "bob", MODULES[1])]
    boxes.append(await make(few, "ann", MODULES[1]))  # which bob uses
    with pytest.raises(errors.LimitExceeded):
        await make(few, "ann", MODULES[2])
    few._zygote_of[boxes[1].id].started -= 2 * zygotes.MAX_AGE
    boxes.append(await make(few, "ann", MODULES[1]))  # a new zygote of the same template
    assert few._zygote_of[boxes[3].id] is not few._zygote_of[boxes[1].id]
    assert all([(await box.run_cell("1")).ok for box in boxes])


async def test_who_asks_for_many_pushes_out_their_own(few: LocalBackend) -> None:
    await use(few, "ann", MODULES[:3])
    await use(few, "bob", MODULES[3:])
    assert there(few) == {*MODULES[1:3], *MODULES[4:]}  # two each
    await use(few, "bob", [MODULES[0], MODULES[3]])
    assert set(MODULES[1:3]) <= there(few)


async def test_many_at_once_keep_the_bound(few: LocalBackend) -> None:
    made = await asyncio.gather(*(make(few, "", module) for module in MODULES), return_exceptions=True)
    refused = [one for one in made if not isinstance(one, LocalBox)]
    assert [getattr(one, "limit", one) for one in refused] == ["templates"] * 2
    assert await settled(few) == 5


async def test_what_cannot_start_takes_nobodys_place_and_leaves_nothing(few: LocalBackend) -> None:
    await use(few, "ann", MODULES[:3])
    await use(few, "cat", MODULES[3:4])
    for number in range(3):
        with pytest.raises(errors.InvalidRequest):
            await use(few, "bob", [f"no_such_{number}"])
    with pytest.raises(errors.BackendUnavailable):
        await few.create(Spec(mounts=(Mount("/nonsense", "/data"),)), user_id="bob")
    assert there(few) == set(MODULES[:4])
    assert await settled(few) == 5
    assert len(few._templates.demand.pools) == 5


async def test_worn_zygotes_are_replaced_as_long_as_few_of_them_live_on(
    few: LocalBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(templates, "_REPLACED", 2)
    boxes = []
    for _ in range(5):
        boxes.append(await make(few, "ann", "decimal"))
        few._zygote_of[boxes[-1].id].started -= 2 * zygotes.MAX_AGE
    assert len({few._zygote_of[box.id] for box in boxes}) == 3
    assert all([(await box.run_cell("1")).ok for box in boxes])
    await boxes[0].destroy()
    await settled(few)
    boxes.append(await make(few, "ann", "decimal"))
    assert len({few._zygote_of[box.id] for box in boxes[1:]}) == 3


async def test_a_caller_who_waits_for_a_zygote_is_told_that_the_backend_closes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun = asyncio.Event()

    async def slow(_zygote: zygotes.ZygoteProcess) -> None:
        begun.set()
        await asyncio.sleep(60)

    async with LocalBackend(LocalSettings(spares=0)) as backend:
        monkeypatch.setattr(zygotes.ZygoteProcess, "start", slow)
        making = asyncio.ensure_future(make(backend, "", "decimal"))
        await begun.wait()
    with pytest.raises(errors.BackendUnavailable):
        await making
