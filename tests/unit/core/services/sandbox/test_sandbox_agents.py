"""Agents and the sandboxes of their sessions."""

import asyncio

import pytest
from support.sandbox_calls import cell, command, gone
from support.workers import beside

from portico.client import Client, RunFailed
from portico.core.hosts.worker.worker_host import WorkerHost
from portico.core.server import core_server
from portico.v1 import events_pb2


@pytest.fixture(params=["local", "workers"], autouse=True)
def host(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the core's process or in a worker, an agent has the same sandbox."""
    if request.param == "workers":
        monkeypatch.setattr(
            core_server, "make_host", lambda apps, _, words: WorkerHost(apps, beside(), words)
        )


async def test_files_go_in_pieces_either_way(client: Client) -> None:
    assert await client.runs.query("upload x", agent="coder").text() == "0 1 2 "


async def test_runs_of_a_session_share_its_sandbox(client: Client) -> None:
    told = {"user_id": "ann", "session_id": "s", "agent": "coder"}
    await client.runs.query("cell x = 5", **told).text()  # type: ignore[arg-type]
    assert await client.runs.query("stream print(x)", **told).text() == "5\n"  # type: ignore[arg-type]
    made = await client.sandboxes.create(user_id="ann", session_id="s")
    assert await client.runs.query("id", **told).text() == made.sandbox_id  # type: ignore[arg-type]
    assert (await cell(client, made.sandbox_id, "x"))[0] == "5"
    told["agent"] = "threaded"
    assert await client.runs.query("print(x + 1)", **told).text() == "6\n"  # type: ignore[arg-type]
    with pytest.raises(RunFailed, match="type"):
        await client.runs.query("fails", agent="coder").text()


@pytest.mark.parametrize("agent", ["coder", "threaded"])
async def test_a_cancelled_run_stops_its_cell_and_not_the_sandbox(client: Client, agent: str) -> None:
    code = "y = 1\nopen('/workspace/begun', 'w')\nimport time\ntime.sleep(60)\ny = 2"
    asked = f"cell {code}" if agent == "coder" else code
    made = await client.sandboxes.create(user_id="ann", session_id="s")
    run = await client.runs.start(asked, agent=agent, user_id="ann", session_id="s")
    async with asyncio.timeout(30):
        while "begun" not in (await command(client, made.sandbox_id, "ls"))[0]:
            await asyncio.sleep(0.02)
    async with asyncio.timeout(30):
        canceled = await client.runs.cancel(run.response.id)
    assert canceled.response.status == events_pb2.RUN_STATUS_CANCELED
    assert (await cell(client, made.sandbox_id, "y"))[0] == "1"


@pytest.mark.parametrize("stop", ["cancel", "interrupt"])
async def test_a_stopped_run_leaves_no_process_of_its_own(client: Client, stop: str) -> None:
    made = await client.sandboxes.create(user_id="ann", session_id="s")
    kept = await client.sandboxes.start_process(made.sandbox_id, ["sleep", "900"])
    stream = client.runs.query("start", agent="coder", user_id="ann", session_id="s")
    async for event in stream:
        if event.content.text == "started":
            break
    async with asyncio.timeout(30):
        while (await command(client, made.sandbox_id, "cat /proc/[0-9]*/comm"))[0].count("sleep") < 3:
            await asyncio.sleep(0.02)
    await getattr(client.runs, stop)(stream.run_id)
    after = (await command(client, made.sandbox_id, "cat /proc/[0-9]*/comm"))[0]
    assert after.split().count("sleep") == 1
    listed = {process.pid: process for process in await client.sandboxes.list_processes(made.sandbox_id)}
    assert not listed[kept.pid].HasField("exit_code")


async def test_an_ephemeral_runs_sandbox_goes_with_its_session(client: Client) -> None:
    sandbox_id = await client.runs.query("id", agent="coder", ephemeral=True).text()
    assert (await gone(client, sandbox_id)).metadata["cause"] == "destroyed"
