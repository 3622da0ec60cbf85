"""Programs in other languages and packages, which print a line of JSON for each step."""

import asyncio
import shutil
import sys
from pathlib import Path
from typing import Any

import orjson


def node() -> str:
    """Returns the Node of the development environment, or the machine's."""
    found = shutil.which("node", path=str(Path(sys.executable).parent)) or shutil.which("node")
    assert found is not None, "no node; run `make dev`"
    return found


async def lines(*command: str | Path) -> list[dict[str, Any]]:
    """Runs a program; returns its output, step by step."""
    process = await asyncio.create_subprocess_exec(
        *map(str, command), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), 60)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, err.decode()
    return [orjson.loads(line) for line in out.splitlines()]


async def steps(*command: str | Path) -> dict[str, dict[str, Any]]:
    """Returns the same, by the name of the step."""
    return {line.pop("step"): line for line in await lines(*command)}
