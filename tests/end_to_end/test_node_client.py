"""A Node program with the .proto files and nothing of ours talks to the core."""

import asyncio
import shutil
import sys
from pathlib import Path

import orjson
from support.deployment import Deployment

ROOT = Path(__file__).parents[2]


async def test_node_queries_watches_and_cancels(deployment: Deployment, tmp_path: Path) -> None:
    node = shutil.which("node", path=str(Path(sys.executable).parent)) or shutil.which("node")
    assert node is not None, "no node; run `make dev`"
    process = await asyncio.create_subprocess_exec(
        node,
        str(ROOT / "examples/node/client.mjs"),
        deployment.target,
        "count 3",
        f"forever {tmp_path / 'mark'}",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, err.decode()
    steps = {line["step"]: line for line in map(orjson.loads, out.splitlines())}
    assert steps["query"]["text"] == "0 1 2 "
    assert steps["query"]["dense"]
    assert (steps["watch"]["first"], steps["watch"]["last"]) == (3, steps["query"]["events"] - 1)
    assert steps["ahead"]["code"] == "OUT_OF_RANGE"
    assert steps["cancel"] == {"step": "cancel", "error": None, "status": "RUN_STATUS_CANCELED"}
    assert steps["ended"]["status"] == "RUN_STATUS_CANCELED"
    assert (tmp_path / "mark").read_text() == "cleaned up"
