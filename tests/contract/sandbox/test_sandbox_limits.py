"""Limits are enforced and reported by name, and the sandbox stays usable."""

import asyncio

import pytest

from portico.sandbox import errors
from portico.sandbox.backend import Backend
from portico.sandbox.handle.sandbox_handle import SandboxHandle


def ended(backend: Backend, failure: errors.SandboxError | None) -> bool:
    """Return whether a bomb has ended the whole sandbox, which is allowed for backends without survival."""
    return "survival" in backend.capabilities.missing and isinstance(failure, errors.SandboxGone)


async def test_a_memory_bomb_costs_the_kernel_and_nothing_else(backend: Backend, box: SandboxHandle) -> None:
    end = (await box.run_cell("b = bytearray(1 << 30)\nb[::4096] = b'x' * (1 << 18)")).end
    if ended(backend, end.failure):
        assert isinstance(end.failure, errors.SandboxGone)
        assert end.failure.cause == "memory"
        return
    if end.failure is None:  # limited per process: Python raises an exception
        assert end.error is not None
        assert end.error.limit == "memory"
    else:
        assert isinstance(end.failure, errors.LimitExceeded)
        assert end.failure.limit == "memory"
        assert end.failure.kernel_lost
    assert (await box.run_cell("1")).ok


async def test_a_command_killed_for_memory_says_so(backend: Backend, box: SandboxHandle) -> None:
    result = await box.run_shell("exec python3 -c 'bytearray(1 << 30)'")
    assert not result.ok
    if ended(backend, result.failure):
        return
    if "memory" in backend.capabilities.limits:
        assert isinstance(result.failure, errors.LimitExceeded)
        assert result.failure.limit == "memory"


async def test_a_fork_bomb_meets_its_limit(backend: Backend, box: SandboxHandle) -> None:
    code = """
import os, signal, time
children = []
try:
    while True:
        pid = os.fork()
        if not pid: time.sleep(60); os._exit(0)
        children.append(pid)
finally:
    for pid in children: os.kill(pid, 9)
    for pid in children: os.waitpid(pid, 0)
"""
    end = (await box.run_cell(code)).end
    if ended(backend, end.failure):
        return
    assert end.error is not None
    assert end.error.limit == "pids"
    assert (await box.run_cell("len(children) < 40")).rich[0].data["text/plain"] == b"True"


async def test_a_fork_bomb_that_a_command_leaves_behind_can_be_swept_away(
    backend: Backend, box: SandboxHandle
) -> None:
    await box.files.write("kept", "x")
    first = await box.run_shell(":(){ :|:& };:; sleep 0.3", timeout=1)
    if "survival" in backend.capabilities.missing:
        assert first.failure is not None
        return
    await box.run_shell("(:(){ :|:& };: &) ; exit 0", timeout=1)
    await box.reset()
    assert (await box.run_shell("ls /proc | grep -c '^[0-9]'")).exit_code == 0
    assert (await box.metrics()).processes == 2
    assert (await box.run_cell("open('kept').read()")).rich[0].data["text/plain"] == b"'x'"


async def test_a_fork_bomb_dies_with_its_deadline(backend: Backend, box: SandboxHandle) -> None:
    code = "while True:\n  try: os.fork()\n  except OSError: pass"
    result = await box.run_shell(["python3", "-c", "import os\n" + code], timeout=1)
    if ended(backend, result.failure):
        return
    assert isinstance(result.failure, errors.SandboxTimeout)
    async with asyncio.timeout(20):
        while (await box.metrics()).processes > 2:  # killed processes are counted until they are reaped
            await asyncio.sleep(0.02)
    assert (await box.run_shell("echo alive")).stdout == b"alive\n"


@pytest.mark.parametrize("path", ["/workspace", "/tmp", "/dev/shm", "/var/tmp"])
async def test_the_disk_is_full_everywhere_at_the_same_size(box: SandboxHandle, path: str) -> None:
    end = (await box.run_cell(f"open('{path}/fill', 'wb').write(bytes(32 << 20))")).end
    assert end.error is not None
    assert end.error.name == "OSError"
    await box.run_cell(f"import os; os.truncate('{path}/fill', 0)")


async def test_a_full_disk_and_used_up_inodes_have_names(backend: Backend, box: SandboxHandle) -> None:
    end = (await box.run_cell("f = open('fill', 'wb')\nwhile True: f.write(bytes(1 << 20)); f.flush()")).end
    assert end.error is not None
    assert end.error.limit == "disk" or end.error.name == "OSError"
    with pytest.raises(errors.LimitExceeded):
        await box.files.write("other", b"x" * (1 << 20))
    await box.run_cell("del f; import os; os.remove('fill')")
    if "inodes" not in backend.capabilities.limits:
        assert "inodes" in backend.capabilities.missing
        return
    end = (await box.run_cell("for n in range(1000): open(f'{n}', 'w')")).end
    assert end.error is not None
    assert end.error.limit == "inodes"


async def test_metrics_tell_what_is_used(backend: Backend, box: SandboxHandle) -> None:
    await box.files.write("a", b"x" * 100_000)
    metrics = await box.metrics()
    assert 100_000 <= metrics.disk_bytes < 1_000_000
    assert metrics.processes >= 2
    assert metrics.inodes > 1 or "inodes" in backend.capabilities.missing


async def test_a_paused_sandbox_stands_still_and_goes_on(backend: Backend, box: SandboxHandle) -> None:
    if "pause" in backend.capabilities.missing:
        with pytest.raises(errors.Unsupported):
            await box.pause()
        return
    process = await box.processes.start("while :; do echo x >> ticks; sleep 0.02; done")
    await box.pause()
    with pytest.raises(errors.SandboxPaused):
        await box.run_shell("true")
    await box.resume()
    assert (await box.run_cell("1")).ok
    await box.processes.signal(process.pid, 9)
    await box.pause()
    await box.destroy()
    with pytest.raises(errors.SandboxGone):
        await box.run_shell("true")
