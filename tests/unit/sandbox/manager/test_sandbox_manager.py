"""Owners and lifetimes of sandboxes, and the errors after their end."""

import asyncio
from collections.abc import Callable

import pytest
from support.syscall_traces import no_traces

from portico.sandbox import errors
from portico.sandbox.local.backend import LocalBackend
from portico.sandbox.manager.quotas import SandboxQuota, SandboxQuotas
from portico.sandbox.manager.sandbox_manager import SandboxManager
from portico.sandbox.spec import Spec


def only(user: str) -> Callable[[str], bool]:
    return lambda user_id: user_id == user


async def test_a_session_has_one_sandbox_and_it_is_nobody_elses() -> None:
    async with SandboxManager({"local": LocalBackend()}) as manager:
        asked = {"user_id": "ann", "session_id": "s1"}
        held = await asyncio.gather(*(manager.own(Spec(), **asked) for _ in range(5)))
        assert len({one.handle.id for one in held}) == 1
        other = await manager.own(Spec(), user_id="bob", session_id="s1")
        assert other.handle.id != held[0].handle.id
        with pytest.raises(errors.SandboxNotFound):
            manager.get(held[0].handle.id, only("bob"))
        assert [one.handle.id for one in manager.listed("bob")] == [other.handle.id]
        await manager.release("ann", "s1")
        with pytest.raises(errors.SandboxGone):
            manager.get(held[0].handle.id, only("ann"))
        with pytest.raises(errors.SandboxGone):
            manager.get(held[0].handle.id)
        with pytest.raises(errors.SandboxNotFound):
            manager.get(held[0].handle.id, only("bob"))
        assert (await manager.own(Spec(), **asked)).handle.id != held[0].handle.id
        await manager.forget("ann")
        with pytest.raises(errors.SandboxNotFound):
            manager.get(held[0].handle.id)
    assert await no_traces()


async def test_a_session_that_ends_takes_what_is_being_made_with_it() -> None:
    """Also a sandbox for which the check of the operator's rules is still running."""
    asked, answered = asyncio.Event(), asyncio.Event()

    async def allowed(spec: Spec) -> Spec:
        asked.set()
        await answered.wait()
        return spec

    async with SandboxManager({"local": LocalBackend()}, allowed=allowed) as manager:
        making = asyncio.create_task(manager.create(Spec(), user_id="ann", session_id="s1"))
        await asked.wait()
        ending = asyncio.create_task(manager.release("ann", "s1"))
        await asyncio.sleep(0.1)
        answered.set()
        await asyncio.gather(making, ending)
        assert manager.listed() == []


async def test_time_to_live_and_idle_time_end_a_sandbox_but_not_a_busy_one() -> None:
    async with SandboxManager({"local": LocalBackend()}) as manager:
        short = await manager.create(Spec(ttl_seconds=0.3), user_id="ann")
        idle = await manager.create(Spec(idle_seconds=0.3), user_id="ann")
        busy = await manager.create(Spec(idle_seconds=0.3), user_id="ann")
        assert (await busy.handle.run_cell("import time; time.sleep(1)")).ok
        for held, cause in ((short, "expired"), (idle, "idle")):
            with pytest.raises(errors.SandboxGone) as caught:
                manager.get(held.handle.id, only("ann"))
            assert caught.value.cause == cause
        assert manager.get(busy.handle.id).handle.gone is None
        manager.set_ttl(busy, 0.1)
        async with asyncio.timeout(5):
            while busy.handle.gone is None:
                await asyncio.sleep(0.02)


async def test_a_paused_sandbox_is_not_idle_but_its_time_to_live_goes_on() -> None:
    async with SandboxManager({"local": LocalBackend()}) as manager:
        spec = Spec(idle_seconds=0.3, ttl_seconds=3.0)
        paused = await manager.create(spec)
        await paused.handle.run_cell("x = 1")
        await paused.handle.pause()
        await asyncio.sleep(1)
        assert manager.get(paused.handle.id) is paused
        with pytest.raises(errors.SandboxPaused, match="resume it"):
            await paused.handle.run_cell("x")
        await paused.handle.resume()
        assert (await paused.handle.run_cell("x")).rich[0].data["text/plain"] == b"1"
        await paused.handle.pause()
        async with asyncio.timeout(10):
            while paused.handle.gone is None:
                await asyncio.sleep(0.02)
        assert paused.handle.gone.cause == "expired"
    assert await no_traces()


async def test_an_idle_sandbox_may_pause_until_the_next_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("portico.sandbox.manager.expiry._NAP", 0.1)
    async with SandboxManager({"local": LocalBackend()}) as manager:
        held = await manager.create(Spec(idle_seconds=0.2, idle_action="pause"))
        await held.handle.run_cell("x = 1")
        counting = await held.handle.processes.start("i=0; while :; do i=$((i+1)); echo $i; sleep 0.02; done")
        async with asyncio.timeout(30):
            while not held.handle.paused:
                await asyncio.sleep(0.02)
        before = held.handle.last_used
        await asyncio.sleep(0.5)
        assert manager.get(held.handle.id).handle.paused
        assert held.handle.last_used == before
        cells = await asyncio.gather(*(held.handle.run_cell(f"x + {number}") for number in range(3)))
        assert [cell.rich[0].data["text/plain"] for cell in cells] == [b"1", b"2", b"3"]
        (told,) = await held.handle.processes.list_all()
        assert (told.pid, told.exit_code) == (counting.pid, None)
        async with asyncio.timeout(30):
            while not held.handle.paused:
                await asyncio.sleep(0.02)
        await held.handle.pause()  # now it is an explicit pause
        with pytest.raises(errors.SandboxPaused):
            await held.handle.run_cell("x")
        await manager.delete(held.handle.id)
    assert await no_traces()


async def test_the_number_of_sandboxes_is_bounded() -> None:
    quotas = SandboxQuotas(total=SandboxQuota(sandboxes=2))
    async with SandboxManager({"local": LocalBackend()}, quotas=quotas) as manager:
        made = await asyncio.gather(*(manager.create(Spec()) for _ in range(3)), return_exceptions=True)
        refused = [one for one in made if isinstance(one, BaseException)]
        assert [type(one) for one in refused] == [errors.LimitExceeded]
        await manager.delete(manager.listed()[0].handle.id)
        await manager.create(Spec())
        with pytest.raises(errors.Unsupported):
            await manager.create(Spec(), backend="moon")
        with pytest.raises(errors.LimitExceeded):
            await manager.create(Spec())


async def test_a_users_and_a_tenants_many_requests_at_once_do_not_pass_their_limits() -> None:
    quotas = SandboxQuotas(
        per_tenant=SandboxQuota(sandboxes=3),
        per_user=SandboxQuota(sandboxes=2),
        tenant_of=lambda user: user[0],
    )
    async with SandboxManager({"local": LocalBackend()}, quotas=quotas) as manager:
        for user, room, limit in (("a1", 2, "sandboxes"), ("a2", 1, "tenant_sandboxes")):
            made = await asyncio.gather(
                *(manager.create(Spec(), user_id=user) for _ in range(4)), return_exceptions=True
            )
            refused = [one.limit for one in made if isinstance(one, errors.LimitExceeded)]
            assert refused == [limit] * (4 - room)
            assert len(manager.listed(user)) == room
        dead = manager.listed("a1")[0]
        dead.handle.kill()  # type: ignore[attr-defined]
        async with asyncio.timeout(5):
            while dead.handle.gone is None:
                await asyncio.sleep(0.01)
        await manager.create(Spec(), user_id="a1")  # an ended sandbox does not count


async def test_of_ended_sandboxes_a_limited_number_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("portico.sandbox.manager.registry._MAX_REMEMBERED", 1)
    async with SandboxManager({"local": LocalBackend()}) as manager:
        lives, first, second = [await manager.create(Spec()) for _ in range(3)]
        await manager.delete(first.handle.id)
        await manager.delete(second.handle.id)
        assert manager.get(lives.handle.id) is lives
        with pytest.raises(errors.SandboxNotFound):
            manager.get(first.handle.id)
        with pytest.raises(errors.SandboxGone):
            manager.get(second.handle.id)


async def test_a_sandbox_that_ended_by_itself_is_replaced_for_its_session() -> None:
    async with SandboxManager({"local": LocalBackend()}) as manager:
        held = await manager.own(Spec(), user_id="ann", session_id="s1")
        held.handle.kill()  # type: ignore[attr-defined]
        async with asyncio.timeout(5):
            while held.handle.gone is None:
                await asyncio.sleep(0.01)
        fresh = await manager.own(Spec(), user_id="ann", session_id="s1")
        assert (await fresh.handle.run_cell("1")).ok


async def test_one_that_comes_while_another_is_ended_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    async with SandboxManager({"local": LocalBackend()}) as manager:
        slow = await manager.create(Spec(ttl_seconds=0.1))
        destroy, begun = slow.handle.destroy, asyncio.Event()

        async def slowly(cause: str) -> None:
            begun.set()
            await asyncio.sleep(0.2)
            await destroy(cause)

        monkeypatch.setattr(slow.handle, "destroy", slowly)
        await begun.wait()
        late = await manager.create(Spec(ttl_seconds=0.1))
        async with asyncio.timeout(3):  # its checks are at most five seconds apart
            while late.handle.gone is None:
                await asyncio.sleep(0.02)
