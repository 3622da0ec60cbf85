"""Mixed load over all protocols without faults: memory and descriptors of every process stay as they are."""

import asyncio
import os
import random
import time
from pathlib import Path
from statistics import median

import httpx
import psutil
import pytest
from soak.callers import Callers
from support.deployment import SCRIPTED, Deployment

from portico.client import Client

SECONDS = float(os.environ.get("PORTICO_SOAK_SECONDS", "60"))
PARTS = 4  # of the time; caches fill in the first
SETTLED = 600.0  # seconds, from which on caches are full in the second part; before, they may still grow
GROWTH = 1.05 if SECONDS >= SETTLED else 1.25  # of memory, between the second part and the last
MORE = 0 if SECONDS >= SETTLED else 16  # descriptors
MODULES = ("portico.core", "portico.gateways")


@pytest.mark.timeout(SECONDS + 400)
async def test_memory_and_descriptors_of_a_loaded_deployment_stay_flat(tmp_path: Path) -> None:
    deployment = Deployment(SCRIPTED, tmp_path)
    try:
        async with (
            Client(deployment.target) as client,
            httpx.AsyncClient(base_url=deployment.url, timeout=30) as http,
        ):
            callers = Callers(client, http, tmp_path, random.Random(7))
            working = asyncio.create_task(callers.work())
            seen = await watch({module: deployment.child(module) for module in MODULES})
            callers.stop.set()
            await working
            assert callers.problems == []
    finally:
        assert deployment.stop() == 0
    print(dict(callers.done))
    for module, parts in seen.items():
        for name, unit in (("memory", "MiB"), ("descriptors", "")):
            print(f"{module}: {name}: " + ", ".join(f"{part[name]:.0f}" for part in parts), unit)
        assert parts[-1]["memory"] <= parts[1]["memory"] * GROWTH, module
        assert parts[-1]["descriptors"] <= parts[1]["descriptors"] + MORE, module


async def watch(processes: dict[str, psutil.Process]) -> dict[str, list[dict[str, float]]]:
    """The medians of each part of the time: resident memory in MiB, and open descriptors that callers do not
    come and go with (the least)."""
    seen: dict[str, list[dict[str, float]]] = {module: [] for module in processes}
    for _ in range(PARTS):
        memory: dict[str, list[float]] = {module: [] for module in processes}
        descriptors: dict[str, list[int]] = {module: [] for module in processes}
        until = time.monotonic() + SECONDS / PARTS
        while time.monotonic() < until:
            for module, process in processes.items():
                memory[module].append(process.memory_info().rss / 2**20)
                descriptors[module].append(process.num_fds())
            await asyncio.sleep(0.5)
        for module, parts in seen.items():
            parts.append({"memory": median(memory[module]), "descriptors": min(descriptors[module])})
    return seen
