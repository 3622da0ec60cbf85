"""Orphan processes: those with a worker's mark that a starting core kills."""

import asyncio
import os
import signal

from portico.core.hosts.worker import orphan_processes
from portico.sandbox.local.process_owner import ProcessOwner


async def marked(mark: str) -> asyncio.subprocess.Process:
    process = await asyncio.create_subprocess_exec(
        "sh",
        "-c",
        "echo; exec sleep 60",
        env={**os.environ, orphan_processes.ENVIRONMENT_MARK: mark},
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    await process.stdout.readline()
    return process


async def test_only_workers_of_a_core_of_this_pid_namespace_that_has_ended_are_killed() -> None:
    dead, living = ProcessOwner(os.getpid(), 1), ProcessOwner.current()
    elsewhere = ProcessOwner(os.getpid(), 1, "anotherboot.4026531836")
    processes = [await marked(f"{owner.name}-1") for owner in (dead, living, elsewhere)]
    try:
        await asyncio.to_thread(orphan_processes.kill_orphans)
        assert await asyncio.wait_for(processes[0].wait(), 10) == -signal.SIGKILL
        assert [process.returncode for process in processes[1:]] == [None, None]
        await asyncio.to_thread(orphan_processes.kill_marked, f"{living.name}-1")
        assert await asyncio.wait_for(processes[1].wait(), 10) == -signal.SIGKILL
    finally:
        for process in processes:
            if process.returncode is None:
                process.kill()
                await process.wait()
