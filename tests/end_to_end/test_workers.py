"""Misbehaving agents in worker processes harm their own run, and not the core or other runs."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psutil
import pytest
from support.deployment import Deployment, eventually
from support.processes import none_alive

from portico.client import Client, PorticoError
from portico.v1 import events_pb2

ABUSIVE = Path(__file__).parent / "agents" / "abusive.py"
FAILED = events_pb2.RUN_STATUS_FAILED
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    started = Deployment(ABUSIVE, tmp_path_factory.mktemp("workers"))
    yield started
    core = started.child("portico.core")
    left = core.children(recursive=True)
    assert started.stop() == 0
    assert none_alive(left)


@pytest.fixture(autouse=True)
async def others_go_on(deployment: Deployment, client: Client) -> AsyncIterator[None]:
    """Checks around every abuse that the core is the same, and that runs of other agents stream on."""
    core = deployment.child("portico.core").pid
    others = [client.runs.query("count 50", agent=agent) for agent in ("here", "beside")]
    for other in others:
        await anext(other)
    yield
    for other in others:
        assert (await other.text()).split() == [str(number) for number in range(50)]
    assert deployment.child("portico.core").pid == core
    assert await client.runs.query("count 2", agent="bad").text() == "0 1 "


@pytest.mark.parametrize(
    ("abuse", "fate"),
    [
        ("exit 3", "ended with exit status 3"),
        ("exit 0", "ended with exit status 0"),
        ("segfault", "was killed by SIGSEGV"),
        ("die", "was killed by SIGKILL"),
        ("close-all", "the agent's process"),
        ("garbage", "broke its connection"),
    ],
)
async def test_a_worker_that_dies_fails_its_runs_and_keeps_what_they_said(
    client: Client, abuse: str, fate: str
) -> None:
    bystander = client.runs.query("stand", agent="bad")
    await anext(bystander)
    *_, end = [event async for event in client.runs.query(abuse, agent="bad")]
    assert end.response.status == FAILED
    assert end.response.error.code == "agent_crashed"
    assert fate in end.response.error.message
    assert end.response.output[0].content[0].text == "before"
    *_, beside = [event async for event in bystander]
    assert beside.response.error.code == "agent_crashed"


@pytest.mark.parametrize(("agent", "text"), [("bad", "block"), ("deaf", "sleep")])
async def test_an_agent_that_blocks_is_cancelled_all_the_same(client: Client, agent: str, text: str) -> None:
    run = await client.runs.start(text, agent=agent)
    await asyncio.sleep(0.3)
    async with asyncio.timeout(20):
        ended = await client.runs.cancel(run.response.id)
    assert ended.response.status == events_pb2.RUN_STATUS_CANCELED
    assert (await client.runs.query("pid", agent=agent).text()).isdigit()


async def test_an_agent_that_blocks_ends_at_its_deadline(client: Client) -> None:
    async with asyncio.timeout(20):
        *_, end = [event async for event in client.runs.query("block", agent="bad", timeout=0.5)]
    assert end.response.error.code == "deadline_exceeded"
    assert end.response.output[0].content[0].text == "not for long"


async def test_a_stopped_process_is_ended_with_its_run(client: Client) -> None:
    pid = int(await client.runs.query("pid", agent="bad").text())
    run = await client.runs.start("stand", agent="bad")
    psutil.Process(pid).suspend()
    async with asyncio.timeout(20):
        await client.runs.cancel(run.response.id)
    assert not psutil.pid_exists(pid)


async def test_an_agent_that_leaks_ends_at_its_limit(client: Client, deployment: Deployment) -> None:
    core = deployment.child("portico.core")
    before = core.memory_info().rss
    *_, end = [event async for event in client.runs.query("leak", agent="bounded")]
    assert end.response.error.code == "agent_crashed"
    assert "bytes of memory" in end.response.error.message
    assert core.memory_info().rss - before < 50 * MIB
    assert await client.runs.query("count 1", agent="bounded").text() == "0 "


async def test_a_worker_is_replaced_after_its_last_run_and_ends_what_it_has_begun(client: Client) -> None:
    first = client.runs.query("count 30", agent="recycled")
    await anext(first)
    pids = [await client.runs.query("pid", agent="recycled").text() for _ in range(4)]
    assert pids[1] == pids[2]
    assert len(set(pids)) == 3
    assert len((await first.text()).split()) == 30
    await eventually(lambda: not psutil.pid_exists(int(pids[0])))


async def test_a_copy_of_an_agent_that_comes_back_from_a_fork_says_nothing(client: Client) -> None:
    assert await client.runs.query("fork-and-return", agent="bad").text() == "I am the original"


async def test_what_an_agent_has_started_ends_with_its_worker(client: Client) -> None:
    *_, end = [event async for event in client.runs.query("leave", agent="bad")]
    pids = [int(pid) for pid in end.response.output[0].content[0].text.split()]
    assert len(pids) == 3
    # killed, and gone shortly after
    await eventually(lambda: not any(psutil.pid_exists(pid) for pid in pids))


async def test_an_agent_that_yields_faster_than_the_log_is_held(
    client: Client, deployment: Deployment
) -> None:
    core = deployment.child("portico.core")
    before = core.memory_info().rss
    *_, end = [event async for event in client.runs.query("flood", agent="bad")]
    assert end.response.error.code == "output_too_large"
    assert core.memory_info().rss - before < 100 * MIB


async def test_an_endpoint_that_ends_its_process_fails_alone(client: Client) -> None:
    added = await client.agents.call_endpoint("/add", {"a": 1, "b": 2}, agent="bad")
    assert added.result_json == '{"sum":3}'
    with pytest.raises(PorticoError, match="exit status 4"):
        await client.agents.call_endpoint("/exit", agent="bad")
    assert await client.agents.call_endpoint("/add", {"a": 1, "b": 2}, agent="bad") == added


async def test_what_an_agent_prints_is_in_the_cores_log(client: Client, deployment: Deployment) -> None:
    await client.runs.query("print", agent="bad").text()
    printed = deployment.log.read_text()
    assert "words on stdout" in printed
    assert "words on stderr" in printed
