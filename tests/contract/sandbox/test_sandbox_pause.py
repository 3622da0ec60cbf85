"""Pauses: all processes inside are stopped until the sandbox is resumed, or until the next call."""

import asyncio

import pytest

from portico.sandbox import errors
from portico.sandbox.backend import Backend
from portico.sandbox.handle.sandbox_handle import SandboxHandle
from portico.sandbox.manager.sandbox_manager import SandboxManager
from portico.sandbox.spec import Spec


async def test_a_pause_lasts_until_it_is_resumed_or_until_the_next_call(
    backend: Backend, box: SandboxHandle
) -> None:
    if "pause" in backend.capabilities.missing:
        with pytest.raises(errors.Unsupported):
            await box.pause()
        with pytest.raises(errors.Unsupported):
            await box.sleep()
        assert (await box.run_cell("1")).ok
        return
    await box.run_cell("x = 1")
    await asyncio.gather(box.pause(), box.pause())
    with pytest.raises(errors.SandboxPaused):
        await box.run_cell("x")
    await box.sleep()  # after an explicit pause the next call does not resume it
    with pytest.raises(errors.SandboxPaused):
        await box.files.exists("x")
    await box.resume()
    assert (await box.run_cell("x")).rich[0].data["text/plain"] == b"1"
    sleeping = asyncio.ensure_future(box.sleep())
    await asyncio.sleep(0)
    cells = await asyncio.gather(*(box.run_cell(f"x + {number}") for number in range(2)))  # during the pause
    await sleeping
    assert [cell.rich[0].data["text/plain"] for cell in cells] == [b"1", b"2"]
    await box.sleep()
    assert (await box.run_shell("echo $((40 + 2))")).stdout == b"42\n"
    await box.sleep()
    await asyncio.wait_for(box.destroy(), 30)


async def test_what_cannot_pause_is_refused_by_name(unopened: Backend) -> None:
    async with SandboxManager({unopened.name: unopened}, default=unopened.name) as manager:
        spec = Spec(idle_seconds=0.5, idle_action="pause")
        if "pause" in unopened.capabilities.missing:
            with pytest.raises(errors.Unsupported, match="idle_action"):
                await manager.create(spec)
            return
        held = await manager.create(spec)
        async with asyncio.timeout(20):
            while not held.handle.paused:
                await asyncio.sleep(0.05)
        assert (await held.handle.run_cell("1")).ok
