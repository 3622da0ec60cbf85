"""A Node program with the .proto files, and without Portico's packages, calls the core."""

from pathlib import Path

from support.deployment import Deployment
from support.programs import node, steps

ROOT = Path(__file__).parents[2]


async def test_node_queries_watches_and_cancels(deployment: Deployment, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    program = ROOT / "examples/node/client.mjs"
    told = await steps(node(), program, deployment.target, "count 3", f"forever {mark}")
    assert told["query"]["text"] == "0 1 2 "
    assert told["query"]["dense"]
    assert (told["watch"]["first"], told["watch"]["last"]) == (3, told["query"]["events"] - 1)
    assert told["ahead"]["code"] == "OUT_OF_RANGE"
    assert told["cancel"] == {"error": None, "status": "RUN_STATUS_CANCELED"}
    assert told["ended"]["status"] == "RUN_STATUS_CANCELED"
    assert mark.read_text() == "cleaned up"
