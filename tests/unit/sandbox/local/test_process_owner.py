"""Owners in several PID namespaces that share the machine's control groups."""

import asyncio
import os
import subprocess
import sys
import textwrap
from asyncio.subprocess import Process
from pathlib import Path

import pytest
from support.syscall_traces import no_traces, traces

from portico.sandbox import errors
from portico.sandbox.local import cgroups, process_owner
from portico.sandbox.local.backend import LocalBackend
from portico.sandbox.local.local_sandbox import LocalBox
from portico.sandbox.local.process_owner import ProcessOwner
from portico.sandbox.spec import Spec

# A core with a sandbox: creates it, prints its own name, waits for a line, and uses the sandbox.
CORE = """
import asyncio, sys
from portico.sandbox.errors import BackendUnavailable
from portico.sandbox.local.backend import LocalBackend
from portico.sandbox.local.process_owner import ProcessOwner
from portico.sandbox.spec import Spec
async def main():
    try:
        async with LocalBackend() as backend:
            box = await backend.create(Spec())
            await box.run_cell("x = 6")
            print(ProcessOwner.current().name, flush=True)
            await asyncio.to_thread(sys.stdin.readline)
            print((await box.run_cell("x * 7")).rich[0].data["text/plain"].decode(), flush=True)
    except BackendUnavailable as error:
        print(error)
asyncio.run(main())
"""


async def core(*options: str) -> Process:
    """Starts one in its own PID namespace. Skips the test if that is not possible."""
    command = ["unshare", "--pid", "--fork", "--kill-child", *options]
    if subprocess.run([*command, "true"], check=False, capture_output=True).returncode != 0:
        pytest.skip("NOT TESTED: no PID namespace can be made here")
    return await asyncio.create_subprocess_exec(
        *command, sys.executable, "-c", textwrap.dedent(CORE),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip


def frozen(box: LocalBox) -> bool:
    path = box.group._unified or box.group._path("freezer")
    state = Path(f"{path}/cgroup.freeze" if box.group._unified else f"{path}/freezer.state").read_text()
    return state.strip() in ("1", "FROZEN", "FREEZING")


async def test_a_core_leaves_alone_what_belongs_to_a_core_of_another_pid_namespace() -> None:
    async with LocalBackend() as backend:
        box = await backend.create(Spec())
        await box.run_cell("x = 1")
        if backend.capabilities.pause == "freezer":
            await box.pause()
        other = await core("--mount-proc")
        assert other.stdout is not None
        owner = ProcessOwner.parse((await other.stdout.readline()).decode().strip())
        assert owner is not None
        assert owner.place != process_owner.pid_namespace_id()
        if backend.capabilities.pause == "freezer":
            assert frozen(box)
            await box.resume()
        assert (await box.run_cell("x")).rich[0].data["text/plain"] == b"1"

        assert process_owner.kill_orphans() >= 0
        cgroups.sweep()
        assert not owner.ended()
        assert (await other.communicate(b"\n"))[0] == b"42\n"
        assert other.returncode == 0
        assert await no_traces(owner), traces(owner)


async def test_a_core_that_sees_only_processes_of_another_namespace_says_so() -> None:
    other = await core()
    out = (await other.communicate(b"\n"))[0].decode()
    assert "remount it" in out


async def test_a_sandbox_backend_refuses_a_foreign_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_owner, "sees_processes", lambda: False)
    assert not ProcessOwner(os.getpid(), 1).ended()
    with pytest.raises(errors.BackendUnavailable, match="remount it"):
        await LocalBackend().open()


def test_only_an_owner_of_this_place_can_be_judged() -> None:
    assert not ProcessOwner.current().ended()
    assert ProcessOwner(os.getpid(), 1).ended()
    assert not ProcessOwner(os.getpid(), 1, "another.4026531836").ended()
    assert ProcessOwner.parse(ProcessOwner.current().name) == ProcessOwner.current()
    for name in ("", "1", "1-2", "1-2-", "x-2-y", "1--y"):
        assert ProcessOwner.parse(name) is None
