"""The bubblewrap backend: other roots, what it refuses, and that no process or file remains."""

import asyncio
import io
import os
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from support.engines import need
from support.syscall_traces import no_traces, traces

from portico.sandbox import errors
from portico.sandbox.bubblewrap.backend import BubblewrapBackend, BubblewrapSettings
from portico.sandbox.docker.local_root import write_root
from portico.sandbox.spec import Limits, Spec


@pytest.fixture(autouse=True)
def _installed() -> None:
    need("bubblewrap")


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    """A root file system with a Python, readable by every user."""
    with tempfile.TemporaryDirectory(prefix="portico-root-") as folder:
        archive = io.BytesIO()
        write_root(archive)
        archive.seek(0)
        with tarfile.open(fileobj=archive) as tar:
            tar.extractall(folder)
        Path(folder).chmod(0o755)
        Path(folder, "etc", "mark").write_text("another system")
        yield Path(folder)


async def test_any_root_with_a_python_will_do_and_its_commands_run(root: Path) -> None:
    async with BubblewrapBackend(BubblewrapSettings(root)) as backend:
        assert backend.name == f"bubblewrap:{root}"
        box = await backend.create(Spec(env={"A": "b"}))
        assert (await box.run_shell("cat /etc/mark; echo $A; id -u")).stdout == b"another systemb\n1000\n"
        assert (await box.run_cell("import sys; sys.prefix")).rich[0].data["text/plain"] == b"'/usr/local'"
        assert (await box.run_cell("open('/etc/mark', 'w')")).end.error is not None
        assert (await box.run_shell("ls /dk /work /root")).stdout == b""
        written = await box.run_cell("open('/dev/x', 'w')")
        assert written.end.error is not None
    assert await no_traces(), traces()


async def test_an_environment_that_no_sandbox_sees_gives_way_to_its_base(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        link = Path(folder, "python")
        link.symlink_to("/usr/bin/python3")
        monkeypatch.setattr("sys.executable", str(link))
        monkeypatch.setattr("sys.prefix", folder)
        monkeypatch.setattr("sys.base_prefix", "/usr")
        async with BubblewrapBackend() as backend:
            box = await backend.create(Spec())
            executable = (await box.run_cell("import sys; sys.executable")).rich[0].data["text/plain"]
    assert executable.startswith(b"'/usr/bin/python3")


async def test_no_sandbox_is_the_hosts_root_whoever_starts_it() -> None:
    async with BubblewrapBackend() as backend:
        boxes = [await backend.create(Spec()) for _ in range(2)]
        assert len({box.uid for box in boxes}) == (2 if os.geteuid() == 0 else 1)
        for box in boxes:
            assert box.process is not None
            owners = Path(f"/proc/{box.process.pid}/status").read_text().split("Uid:")[1].split()[:4]
            assert "0" not in owners
            # Its own environment and that of process 1; no other is readable from inside.
            assert Path(f"/proc/{box.process.pid}/environ").read_bytes() == b""
        assert (await boxes[0].run_shell("echo x > /proc/sys/kernel/core_pattern")).exit_code != 0
    assert await no_traces(), traces()


async def test_what_it_cannot_do_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with BubblewrapBackend() as backend:
        assert {"inodes", "preload"} <= backend.capabilities.missing.keys()
        with pytest.raises(errors.Unsupported):
            await backend.create(Spec(preload=("decimal",)))
    with pytest.raises(errors.BackendUnavailable, match="python3"):
        await BubblewrapBackend(BubblewrapSettings(tmp_path)).open()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python3").write_text("no program")
    with pytest.raises(errors.BackendUnavailable, match="bubblewrap cannot start"):
        await BubblewrapBackend(BubblewrapSettings(tmp_path)).open()
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(errors.BackendUnavailable, match="apt-get install"):
        await BubblewrapBackend().open()
    assert await no_traces(), traces()


async def test_a_waiting_sandbox_is_claimed_with_the_environment_asked_for() -> None:
    async with BubblewrapBackend(BubblewrapSettings(pool_size=1)) as backend:
        async with asyncio.timeout(30):
            while not backend._pool.ready:
                await asyncio.sleep(0.05)
        waiting = set(backend._boxes)
        box = await backend.create(Spec(env={"A": "b"}), "sbx_mine")
        assert box.id == "sbx_mine"
        assert waiting.isdisjoint(backend._boxes)
        first = await box.run_cell("import os; print(os.environ['A'], _)")
        assert (first.stdout, first.end.execution_count) == (b"b \n", 1)
        assert (await box.run_shell("ulimit -u")).stdout == b"129\n"  # as of a sandbox that was not pooled
        other = await backend.create(Spec(limits=Limits(processes=16)))
        assert other.id not in waiting
        assert (await other.run_shell("ulimit -u")).stdout == b"17\n"
    assert await no_traces(), traces()


async def test_a_creation_that_is_given_up_leaves_no_process() -> None:
    async with BubblewrapBackend() as backend:
        assert backend._code is not None
        mark = backend._code.name.encode()
        for tenths in range(40):
            making = asyncio.ensure_future(backend.create(Spec()))
            await asyncio.sleep(tenths / 10_000)
            making.cancel()
            async with asyncio.timeout(20):
                await asyncio.gather(making, return_exceptions=True)
        async with asyncio.timeout(20):
            while any(mark in words for words in command_lines()):
                await asyncio.sleep(0.05)
    assert await no_traces(), traces()


def command_lines() -> Iterator[bytes]:
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended already
            yield (entry / "cmdline").read_bytes()


async def test_many_at_once_leave_nothing() -> None:
    async with BubblewrapBackend() as backend:

        async def client() -> None:
            box = await backend.create(Spec())
            assert (await box.run_cell("import subprocess; subprocess.Popen(['sleep', '60'])")).ok
            await box.destroy()

        await asyncio.gather(*(client() for _ in range(6)))
    assert await no_traces(), traces()
