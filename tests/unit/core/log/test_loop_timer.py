"""Loop timer: it ticks only while commits are frequent."""

import asyncio
import os
import select
import time
from collections.abc import AsyncIterator

import pytest

from portico.core.log.loop_timer import BUSY_COMMITS, TICK_NS, WINDOW_SECONDS, LoopTimer, _arm, _create


@pytest.fixture
async def ticks() -> AsyncIterator[LoopTimer]:
    ticks = LoopTimer()
    ticks.start()
    yield ticks
    ticks.stop()


def busy(ticks: LoopTimer) -> None:
    """Two windows of commits, because the first may have begun long ago."""
    for _ in range(2 * BUSY_COMMITS):
        ticks.count_commit()


async def test_a_busy_core_ticks_and_an_idle_one_does_not(ticks: LoopTimer) -> None:
    assert not ticks.ticking
    busy(ticks)
    assert ticks.ticking
    async with asyncio.timeout(10):
        while ticks.ticking:
            await asyncio.sleep(WINDOW_SECONDS / 10)


async def test_a_core_that_commits_now_and_then_does_not_tick(ticks: LoopTimer) -> None:
    for _ in range(3 * BUSY_COMMITS):
        ticks.count_commit()
        ticks._since -= WINDOW_SECONDS  # as if the commits were a window apart
    assert not ticks.ticking


async def test_it_ticks_again_after_a_pause(ticks: LoopTimer) -> None:
    for _ in range(2):
        busy(ticks)
        assert ticks.ticking
        async with asyncio.timeout(10):
            while ticks.ticking:
                await asyncio.sleep(WINDOW_SECONDS / 10)


def test_a_tick_is_where_a_millisecond_begins() -> None:
    timer = _create()
    try:
        _arm(timer, TICK_NS)
        late = []
        for _ in range(200):
            select.select([timer], [], [])
            late.append(time.clock_gettime_ns(time.CLOCK_MONOTONIC) % TICK_NS)
            os.read(timer, 8)
    finally:
        os.close(timer)
    # The minimum, because other load may delay a single one.
    assert min(late) < TICK_NS / 2


async def test_nothing_is_left_open_once_it_has_stopped() -> None:
    before = len(os.listdir("/proc/self/fd"))
    ticks = LoopTimer()
    ticks.start()
    busy(ticks)
    ticks.stop()
    assert not ticks.ticking
    busy(ticks)
    assert not ticks.ticking
    assert len(os.listdir("/proc/self/fd")) == before
