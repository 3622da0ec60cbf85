"""Who owns which sandbox, how long it lives, and what is told when it is gone."""

import asyncio

import pytest
from unit.sandbox.traces import no_traces

from portico.sandbox import errors
from portico.sandbox.local.backend import LocalBackend
from portico.sandbox.manager import SandboxManager
from portico.sandbox.spec import Spec


async def test_a_session_has_one_sandbox_and_it_is_nobody_elses() -> None:
    async with SandboxManager({"local": LocalBackend()}) as manager:
        held = await asyncio.gather(*(manager.connect("ann", "s1") for _ in range(5)))
        assert len({one.box.id for one in held}) == 1
        other = await manager.connect("bob", "s1")
        assert other.box.id != held[0].box.id
        with pytest.raises(errors.SandboxNotFound):
            manager.get(held[0].box.id, "bob")
        assert [one.box.id for one in manager.list_held("bob")] == [other.box.id]
        await manager.release("ann", "s1")
        with pytest.raises(errors.SandboxGone):
            manager.get(held[0].box.id, "ann")
        with pytest.raises(errors.SandboxGone):
            manager.get(held[0].box.id)
        with pytest.raises(errors.SandboxNotFound):
            manager.get(held[0].box.id, "bob")
        assert (await manager.connect("ann", "s1")).box.id != held[0].box.id
    assert await no_traces()


async def test_time_to_live_and_idle_time_end_a_sandbox_but_not_a_busy_one() -> None:
    async with SandboxManager({"local": LocalBackend()}) as manager:
        short = await manager.create(Spec(ttl_seconds=0.3), user_id="ann")
        idle = await manager.create(Spec(idle_seconds=0.3), user_id="ann")
        busy = await manager.create(Spec(idle_seconds=0.3), user_id="ann")
        assert (await busy.box.run_cell("import time; time.sleep(1)")).ok
        for held, cause in ((short, "expired"), (idle, "idle")):
            with pytest.raises(errors.SandboxGone) as caught:
                manager.get(held.box.id, "ann")
            assert caught.value.cause == cause
        assert manager.get(busy.box.id).box.gone is None
        manager.set_ttl(busy.box.id, 0.1)
        async with asyncio.timeout(5):
            while busy.box.gone is None:
                await asyncio.sleep(0.02)


async def test_the_number_of_sandboxes_is_bounded() -> None:
    async with SandboxManager({"local": LocalBackend()}, max_sandboxes=2) as manager:
        made = await asyncio.gather(*(manager.create(Spec()) for _ in range(3)), return_exceptions=True)
        refused = [one for one in made if isinstance(one, BaseException)]
        assert [type(one) for one in refused] == [errors.LimitExceeded]
        await manager.delete(manager.list_held()[0].box.id)
        await manager.create(Spec())
        with pytest.raises(errors.Unsupported):
            await manager.create(Spec(), backend="moon")
        with pytest.raises(errors.LimitExceeded):
            await manager.create(Spec())


async def test_a_sandbox_that_ended_by_itself_is_replaced_for_its_session() -> None:
    async with SandboxManager({"local": LocalBackend()}) as manager:
        held = await manager.connect("ann", "s1")
        held.box.kill()  # type: ignore[attr-defined]
        async with asyncio.timeout(5):
            while held.box.gone is None:
                await asyncio.sleep(0.01)
        fresh = await manager.connect("ann", "s1")
        assert (await fresh.box.run_cell("1")).ok


async def test_one_that_comes_while_another_is_ended_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    async with SandboxManager({"local": LocalBackend()}) as manager:
        slow = await manager.create(Spec(ttl_seconds=0.1))
        destroy, begun = slow.box.destroy, asyncio.Event()

        async def slowly(cause: str) -> None:
            begun.set()
            await asyncio.sleep(0.2)
            await destroy(cause)

        monkeypatch.setattr(slow.box, "destroy", slowly)
        await begun.wait()
        late = await manager.create(Spec(ttl_seconds=0.1))
        async with asyncio.timeout(3):  # it naps for five at most
            while late.box.gone is None:
                await asyncio.sleep(0.02)
