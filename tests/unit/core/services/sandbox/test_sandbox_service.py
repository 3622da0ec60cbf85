"""Sandboxes: their owners, the limits of a request, and their end."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from support.sandbox_calls import cell, command, gone

from portico.client import (
    Client,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PorticoError,
    ResourceExhausted,
)
from portico.client.convert import to_duration
from portico.core.server.core_server import CoreServer
from portico.sandbox.local import templates
from portico.v1 import sandbox_pb2 as pb


async def test_a_session_has_one_of_each_type_and_more_if_asked(client: Client) -> None:
    made = await asyncio.gather(*(client.sandboxes.create(user_id="ann", session_id="s") for _ in range(5)))
    assert len({one.sandbox_id for one in made}) == 1
    files = await client.sandboxes.create(pb.SandboxSpec(type="filesystem"), user_id="ann", session_id="s")
    more = await client.sandboxes.create(user_id="ann", session_id="s", fresh=True)
    ids = [one.sandbox_id for one in (more, files, made[0])]
    assert len(set(ids)) == 3
    assert [one.sandbox_id async for one in client.sandboxes.list(user_id="ann", page_size=2)] == ids
    assert not [one async for one in client.sandboxes.list(user_id="bob")]
    one = await client.sandboxes.get(ids[2])
    assert (one.user_id, one.session_id, one.state) == ("ann", "s", pb.SANDBOX_STATE_RUNNING)
    assert (one.spec.type, one.spec.backend, one.tier in ("full", "rlimits")) == ("base", "local", True)
    assert one.spec.limits.memory_bytes == 512 << 20
    assert one.spec.HasField("ttl")
    await client.sandboxes.create(user_id="ann", fresh=True)
    with pytest.raises(ResourceExhausted) as full:
        await client.sandboxes.create(user_id="ann", fresh=True)
    assert full.value.metadata == {"limit": "sandboxes"}


async def test_a_key_finds_the_first_while_it_lives(client: Client) -> None:
    first = await client.sandboxes.create(fresh=True, idempotency_key="k")
    assert (await client.sandboxes.create(fresh=True, idempotency_key="k")).sandbox_id == first.sandbox_id
    await client.sandboxes.delete(first.sandbox_id)
    again = await client.sandboxes.create(fresh=True, idempotency_key="k")
    assert again.sandbox_id != first.sandbox_id


async def test_what_is_gone_says_why(client: Client) -> None:
    with pytest.raises(NotFound) as missing:
        await client.sandboxes.get("sbx_none")
    assert (missing.value.reason, missing.value.metadata) == (
        "SANDBOX_NOT_FOUND",
        {"sandbox_id": "sbx_none"},
    )
    made = await client.sandboxes.create(pb.SandboxSpec(ttl=to_duration(1)))
    error = await gone(client, made.sandbox_id)
    assert error.reason == "SANDBOX_GONE"
    assert error.metadata == {"sandbox_id": made.sandbox_id, "cause": "expired"}
    with pytest.raises(FailedPrecondition):
        await cell(client, made.sandbox_id, "1")


@pytest.mark.parametrize("name", ["x", "\u00e9", "\U0010dc80"])
async def test_an_error_that_repeats_a_long_name_comes_as_what_it_is(client: Client, name: str) -> None:
    made = await client.sandboxes.create()
    path = "/workspace/" + name * (4_000 // len(name.encode()))
    for _ in range(10):  # gRPC randomly refuses metadata near the limit
        with pytest.raises((FailedPrecondition, NotFound)) as wrong:
            await client.sandboxes.stat_file(made.sandbox_id, path)
        assert wrong.value.reason in ("SANDBOX_OPERATION_FAILED", "FILE_NOT_FOUND")
        with pytest.raises(PorticoError) as unknown:
            await client.sandboxes.create(pb.SandboxSpec(backend=name * 9_000), fresh=True)
        assert unknown.value.reason == "SANDBOX_UNSUPPORTED"


async def test_values_of_environment_variables_are_told_to_code_inside_only(client: Client) -> None:
    spec = pb.SandboxSpec(env={"API_KEY": "secret"})
    made = await client.sandboxes.create(spec)
    assert (await command(client, made.sandbox_id, "echo $API_KEY"))[0] == "secret\n"
    told = [made, await client.sandboxes.get(made.sandbox_id)]
    told += [one async for one in client.sandboxes.list()]
    assert len(told) == 3
    assert all(one.spec.env == {"API_KEY": ""} for one in told)


async def test_nobody_gets_more_than_the_operator_allows(client: Client, tmp_path: Path) -> None:
    mount = pb.SandboxMount(source=f"{tmp_path}/shown", target="/data")
    refused = {
        "spec.limits.memory_bytes": pb.SandboxSpec(limits=pb.SandboxLimits(memory_bytes=1 << 40)),
        "spec.limits.processes": pb.SandboxSpec(limits=pb.SandboxLimits(processes=1)),
        "spec.mounts[0].source": pb.SandboxSpec(mounts=[pb.SandboxMount(source="/etc", target="/data")]),
        "spec.preload": pb.SandboxSpec(preload=["os"]),
        "type": pb.SandboxSpec(type="moon"),
        "env": pb.SandboxSpec(env={"A=B": "1"}),
        "spec.ttl": pb.SandboxSpec(ttl=to_duration(0)),
    }
    for field, spec in refused.items():
        with pytest.raises(InvalidArgument) as wrong:
            await client.sandboxes.create(spec)
        assert wrong.value.metadata == {"field": field}
    (tmp_path / "shown" / "out").symlink_to("/etc")
    for source, writable in ((f"{tmp_path}/shown", True), (f"{tmp_path}/shown/out", False)):
        spec = pb.SandboxSpec(mounts=[pb.SandboxMount(source=source, target="/data", writable=writable)])
        with pytest.raises(InvalidArgument):
            await client.sandboxes.create(spec)
    with pytest.raises(PorticoError) as unknown:
        await client.sandboxes.create(pb.SandboxSpec(backend="moon"))
    assert unknown.value.reason == "SANDBOX_UNSUPPORTED"
    tmp_path.chmod(0o755)
    for folder in tmp_path.parents:
        if folder.stat().st_mode & 0o777 == 0o700:
            pytest.skip("pytest's directory can't be shown to another user")
    made = await client.sandboxes.create(pb.SandboxSpec(mounts=[mount]))
    assert (await command(client, made.sandbox_id, "cat /data/note"))[0] == "hello"


async def test_preloaded_modules_are_told_once_each_and_a_user_has_few_sets_of_them(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(templates, "MAX_TEMPLATES_PER_USER", 1)
    asked = pb.SandboxSpec(preload=["numpy", "asyncio", "numpy"])
    made = await client.sandboxes.create(asked, user_id="ann")
    assert made.spec.preload == ["asyncio", "numpy"]
    with pytest.raises(ResourceExhausted) as full:
        await client.sandboxes.create(pb.SandboxSpec(preload=["numpy"]), user_id="ann", fresh=True)
    assert (full.value.reason, full.value.metadata) == ("LIMIT_EXCEEDED", {"limit": "templates"})
    await client.sandboxes.create(pb.SandboxSpec(preload=["asyncio"]), user_id="bob")


async def test_numbers_out_of_range_are_refused_with_the_range(client: Client) -> None:
    nan, infinite = float("nan"), float("inf")
    limits: list[tuple[str, Any]] = [("processes", value) for value in (-1, 2**31 - 1, -(2**31))]
    for name in ("memory_bytes", "disk_bytes", "inodes", "output_bytes"):
        limits += [(name, value) for value in (-1, 1, 2**63 - 1, -(2**63))]
    limits += [("cpus", value) for value in (nan, infinite, -infinite, -1.0, 1e-300, 5e-324, 1e308)]
    durations = [
        Duration(seconds=value, nanos=nanos)
        for value, nanos in ((0, 0), (-1, 0), (10**12, 0), (2**63 - 1, 0), (-(2**63), 0), (1, -1), (1, 10**9))
    ]
    limits += [("call_time", duration) for duration in durations]
    wrong = [
        (f"spec.limits.{name}", pb.SandboxSpec(limits=pb.SandboxLimits(**{name: value})))
        for name, value in limits
    ]
    wrong += [("spec.ttl", pb.SandboxSpec(ttl=duration)) for duration in durations]
    wrong += [("spec.idle_timeout", pb.SandboxSpec(idle_timeout=duration)) for duration in durations]
    for field, spec in wrong:
        with pytest.raises(InvalidArgument, match=r"between [\d.]+ and \d+|at most \d+ seconds") as refused:
            await client.sandboxes.create(spec)
        assert refused.value.metadata == {"field": field}, spec
    made = (await client.sandboxes.create()).sandbox_id
    stub = client.sandboxes._calls.connection.sandboxes
    for duration in durations:
        request = pb.RunCellRequest(sandbox_id=made, code="1", timeout=duration)
        with pytest.raises(InvalidArgument, match="at most") as late:
            await anext(client.sandboxes._read(stub.RunCell(request)))
        assert late.value.metadata == {"field": "timeout"}
    for seconds in (nan, infinite, 1e15):
        with pytest.raises(ValueError, match="at most 315,576,000,000 seconds"):
            await cell(client, made, "1", timeout=seconds)


async def test_it_is_paused_and_goes_on(client: Client) -> None:
    made = await client.sandboxes.create()
    await client.sandboxes.pause(made.sandbox_id)
    assert (await client.sandboxes.get(made.sandbox_id)).state == pb.SANDBOX_STATE_PAUSED
    with pytest.raises(FailedPrecondition) as paused:
        await cell(client, made.sandbox_id, "1")
    assert paused.value.reason == "SANDBOX_PAUSED"
    await client.sandboxes.resume(made.sandbox_id)
    assert (await cell(client, made.sandbox_id, "40 + 2"))[0] == "42"
    assert (await client.sandboxes.metrics(made.sandbox_id)).processes > 0
    assert (await client.sandboxes.touch(made.sandbox_id)).sandbox_id == made.sandbox_id


async def test_an_idle_one_pauses_if_asked_and_goes_on_with_the_next_call(client: Client) -> None:
    spec = pb.SandboxSpec(idle_timeout=to_duration(0.2), idle_action=pb.SANDBOX_IDLE_ACTION_PAUSE)
    made = await client.sandboxes.create(spec)
    assert made.spec.idle_action == pb.SANDBOX_IDLE_ACTION_PAUSE
    assert (await client.sandboxes.create(fresh=True)).spec.idle_action == pb.SANDBOX_IDLE_ACTION_END
    await cell(client, made.sandbox_id, "x = 40")
    async with asyncio.timeout(30):
        while (await client.sandboxes.get(made.sandbox_id)).state != pb.SANDBOX_STATE_PAUSED:
            await asyncio.sleep(0.05)
    assert (await cell(client, made.sandbox_id, "x + 2"))[0] == "42"
    unknown = pb.SandboxSpec()
    unknown.MergeFromString(b"\x58\x07")  # idle_action: 7
    with pytest.raises(InvalidArgument) as wrong:
        await client.sandboxes.create(unknown)
    assert wrong.value.metadata == {"field": "spec.idle_action"}


async def test_checkpoints_snapshots_and_forks(client: Client) -> None:
    made = await client.sandboxes.create(user_id="ann")
    one = made.sandbox_id
    await cell(client, one, "x = 1; open('a', 'w').write('one')")
    await client.sandboxes.create_checkpoint(one, "before")
    taken = await client.sandboxes.create_snapshot(one)
    assert taken.size_bytes > 0
    await cell(client, one, "x = 2; open('a', 'w').write('two')")
    fork = (await client.sandboxes.fork(sandbox_id=one)).sandbox_id
    assert (await cell(client, fork, "open('a').read()"))[0] == "'two'"
    assert await client.sandboxes.roll_back(one, checkpoint="before")
    assert (await cell(client, one, "x, open('a').read()"))[0] == "(1, 'two')"
    await client.sandboxes.roll_back(one, snapshot_id=taken.snapshot_id)
    assert (await cell(client, one, "open('a').read()"))[0] == "'one'"
    await client.sandboxes.delete(one)
    fork = (await client.sandboxes.fork(snapshot_id=taken.snapshot_id)).sandbox_id
    assert (await cell(client, fork, "open('a').read()"))[0] == "'one'"
    assert (await client.sandboxes.get(fork)).user_id == "ann"
    await client.sandboxes.create_snapshot(fork)
    with pytest.raises(ResourceExhausted):
        await client.sandboxes.create_snapshot(fork)
    await client.sandboxes.delete_snapshot(taken.snapshot_id)
    for work in (
        client.sandboxes.roll_back(fork, checkpoint="never"),
        client.sandboxes.roll_back(fork, snapshot_id=taken.snapshot_id),
        client.sandboxes.delete_snapshot(taken.snapshot_id),
    ):
        with pytest.raises(NotFound) as missing:
            await work
        assert missing.value.reason == "SNAPSHOT_NOT_FOUND"


async def test_a_users_snapshots_are_counted_listed_and_take_nothing_from_others(client: Client) -> None:
    greedy = (await client.sandboxes.create(user_id="mal")).sandbox_id
    taken = [(await client.sandboxes.create_snapshot(greedy)).snapshot_id for _ in range(2)]
    await client.sandboxes.delete(greedy)
    again = (await client.sandboxes.create(user_id="mal")).sandbox_id
    with pytest.raises(ResourceExhausted) as full:
        await client.sandboxes.create_snapshot(again)
    assert full.value.metadata == {"limit": "snapshots"}
    listed = [one async for one in client.sandboxes.list_snapshots(user_id="mal", page_size=1)]
    assert [one.snapshot_id for one in listed] == taken[::-1]
    assert {(one.sandbox_id, one.user_id) for one in listed} == {(greedy, "mal")}
    assert all(one.size_bytes > 0 and one.HasField("created_time") for one in listed)
    other = (await client.sandboxes.create(user_id="ann")).sandbox_id
    assert not [one async for one in client.sandboxes.list_snapshots(sandbox_id=other)]
    fork = await client.sandboxes.fork(sandbox_id=other)
    assert fork.user_id == "ann"
    await client.sandboxes.delete_snapshot(taken[0])
    await client.sandboxes.create_snapshot(again)
    with pytest.raises(ResourceExhausted):
        await client.sandboxes.fork(sandbox_id=again)


async def test_a_snapshot_that_becomes_too_large_leaves_nothing(
    client: Client, core: CoreServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    made = (await client.sandboxes.create(user_id="ann")).sandbox_id
    await cell(client, made, "import os; open('a', 'wb').write(os.urandom(3 << 20))")
    kept = await client.sandboxes.create_snapshot(made)
    files = list(tmp_path.glob("portico-snapshots-*/*"))
    assert [file.stat().st_size for file in files] == [kept.size_bytes]
    for _ in range(2):
        with pytest.raises(ResourceExhausted) as full:
            await client.sandboxes.create_snapshot(made)
        assert full.value.metadata == {"limit": "snapshot_bytes"}
        assert list(tmp_path.glob("portico-snapshots-*/*")) == files
    assert (await cell(client, made, "40 + 2"))[0] == "42"
    await client.sandboxes.delete_snapshot(kept.snapshot_id)
    assert (await client.sandboxes.create_snapshot(made)).size_bytes == kept.size_bytes


async def test_a_deleted_session_leaves_no_sandbox(client: Client) -> None:
    await client.sessions.create(user_id="ann", session_id="s")
    made = await client.sandboxes.create(user_id="ann", session_id="s")
    await client.sessions.delete("s", user_id="ann")
    with pytest.raises(FailedPrecondition) as ended:
        await client.sandboxes.get(made.sandbox_id)
    assert ended.value.metadata["cause"] == "destroyed"


async def test_nothing_is_started_before_it_is_needed(client: Client, core: CoreServer) -> None:
    await client.sandboxes.list().page()
    with pytest.raises(NotFound):
        await client.sandboxes.get("sbx_none")
    assert core._sandboxes._manager is None
