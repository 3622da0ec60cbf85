"""kill -9 at random moments: a returned result of `context.once` is never computed again."""

import asyncio
import random
from collections import defaultdict
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.deployment import Deployment

from portico.client import Client
from portico.v1 import events_pb2 as pb

AGENTS = Path(__file__).parent / "agents" / "steps.py"
STEPS = 25
ROUNDS = 1
KILLS = 3  # per round: fewer than the attempts of a run


@pytest.fixture
async def working(tmp_path: Path) -> AsyncIterator[Deployment]:
    started = Deployment(AGENTS, tmp_path, env={"STEPS_FILE": str(tmp_path / "steps")})
    yield started
    started.stop()


@pytest.mark.timeout(600)
async def test_a_step_whose_result_was_given_is_never_done_again(working: Deployment) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    runs: list[str] = []
    async with Client(working.target) as client:
        for _ in range(ROUNDS):
            begun = [
                (await client.runs.start("go", agent=agent)).response.id for agent in ("here", "apart") * 3
            ]
            for _ in range(KILLS):
                await asyncio.sleep(chance.uniform(0.05, 0.4))
                working.kill("portico.core")
                await asyncio.to_thread(working.wait_ready)
            for run_id in begun:
                *_, end = [event async for event in client.runs.watch(run_id)]
                assert end.response.status == pb.RUN_STATUS_COMPLETED, end.response.error
                text = end.response.output[0].content[0].text
                assert text.split() == [str(step * 2) for step in range(STEPS)]
            runs += begun
    calls: dict[tuple[str, str], list[str]] = defaultdict(list)
    kept: set[tuple[str, str]] = set()
    for line in (working.directory / "steps").read_text().splitlines():
        word, run_id, step, *key = line.split()
        if word == "kept":
            kept.add((run_id, step))
        else:
            assert (run_id, step) not in kept, "done again though its result was given"
            calls[run_id, step] += key
    assert set(calls) == kept == {(run_id, str(step)) for run_id in runs for step in range(STEPS)}
    assert all(len(set(keys)) == 1 for keys in calls.values()), "another idempotency key"
    assert len({keys[0] for keys in calls.values()}) == len(calls)
    again = sum(len(keys) - 1 for keys in calls.values())
    print(f"{len(calls)} steps, {ROUNDS * KILLS} kills, {again} done again between effect and record")
    assert again <= ROUNDS * KILLS * 6
