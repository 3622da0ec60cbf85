"""Snapshots: restoring an earlier state, and continuing from it in another sandbox."""

import asyncio
import os
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path

import pytest

from portico.sandbox import errors
from portico.sandbox.backend import Backend
from portico.sandbox.handle.sandbox_handle import SandboxHandle
from portico.sandbox.manager.sandbox_manager import SandboxManager
from portico.sandbox.manager.snapshots import SnapshotStore
from portico.sandbox.spec import Mount, Spec


@pytest.fixture
def snapshots(tmp_path: Path) -> Iterator[SnapshotStore]:
    kept = SnapshotStore(tmp_path)
    yield kept
    kept.close()
    assert not list(tmp_path.iterdir())


async def test_rollback_takes_files_and_variables_back(
    backend: Backend, box: SandboxHandle, snapshots: SnapshotStore
) -> None:
    await box.files.write("d/kept", "old")
    await box.run_cell("x = 1")
    snapshot = await snapshots.take(box)
    await box.files.write("d/kept", "new")
    await box.files.write("added", "")
    await box.run_cell("x = 2")
    with_kernel = "checkpoints" not in backend.capabilities.missing
    assert await snapshots.rollback(box, snapshot.id) == with_kernel
    assert await box.files.read("d/kept") == b"old"
    assert not await box.files.exists("added")
    if with_kernel:
        assert (await box.run_cell("x")).rich[0].data["text/plain"] == b"1"
    await box.run_cell("import os; os._exit(1)")
    assert not await snapshots.rollback(box, snapshot.id)
    assert (await box.run_cell("x")).end.error is not None
    assert snapshots.listed(sandbox_id=box.id) == [snapshot]
    snapshots.delete(snapshot.id)
    with pytest.raises(errors.SnapshotNotFound):
        await snapshots.rollback(box, snapshot.id)


async def test_a_fork_has_the_files_and_is_independent(unopened: Backend) -> None:
    async with SandboxManager({unopened.name: unopened}, default=unopened.name) as manager:
        held = await manager.create(Spec(), user_id="ann", session_id="s")
        await held.handle.files.write("shared", "1")
        fork = await manager.fork_live(held, "t")
        await fork.handle.files.write("shared", "2")
        assert await held.handle.files.read("shared") == b"1"
        assert fork.handle.id != held.handle.id
        assert (fork.handle.spec, fork.user_id, fork.session_id) == (held.handle.spec, "ann", "t")
        assert manager.snapshots.listed() == []


_TELL = """
import hashlib, os, stat
def tell():
    told = {}
    for folder, names, files in os.walk(b"/workspace"):
        for name in names + files:
            path = os.path.join(folder, name)
            state = os.lstat(path)
            content = ""
            if stat.S_ISREG(state.st_mode):
                content = hashlib.sha256(open(path, "rb").read()).hexdigest()
            elif stat.S_ISLNK(state.st_mode):
                content = os.readlink(path)
            told[path] = (oct(state.st_mode), state.st_nlink, state.st_mtime_ns, content)
    return told
"""


async def test_whatever_a_workspace_has_comes_back(box: SandboxHandle, snapshots: SnapshotStore) -> None:
    made = await box.run_cell(
        _TELL
        + """
os.mkfifo("pipe")
os.symlink("/usr/bin/python3", "absolute")
os.symlink("../..", "up")
os.symlink("nothing", "dangling")
open("first", "w").write("one")
os.link("first", "second")
os.makedirs("locked/inner")
open("locked/inner/file", "w").write("x")
os.chmod("locked/inner/file", 0o444)
os.makedirs("l" * 120 + "/" + "m" * 200)
open("l" * 120 + "/" + "m" * 200 + "/" + "n" * 200, "w").write("deep")
open("naïve €", "w").write("text")
open(b"not \\xff utf-8 \\n and lines", "w").write("bytes")
os.symlink(b"to \\xfe", "odd link")
open("program", "w").write("#!/bin/sh")
os.chmod("program", 0o755)
os.utime("program", ns=(1, 1_234_567_890_123_456_789))
os.chmod("locked/inner", 0o555)
os.chmod("locked", 0o555)
before = tell()
print(len(before))
"""
    )
    assert made.ok, made
    taken = await snapshots.take(box)
    changed = await box.run_cell(
        "import shutil\nos.chmod('locked', 0o700)\nos.rename('locked', 'moved')\nos.unlink('pipe')\n"
        "open('first', 'w').write('two')\nos.mkfifo('another')"
    )
    assert changed.ok
    came_back = await snapshots.rollback(box, taken.id)
    # If the kernel was not restored, run the same code in the new one.
    if not came_back:
        fork = await box.run_cell(_TELL + "print(len(tell()))")
        assert fork.stdout == made.stdout
        return
    compared = await box.run_cell("now = tell()\n[(k, before.get(k), now.get(k)) for k in {*before, *now}]\n")
    different = await box.run_cell("[k for k in {*before, *now} if before.get(k) != now.get(k)]")
    assert different.rich[0].data["text/plain"] == b"[]", compared.rich[0].data["text/plain"]


async def test_holes_stay_holes_and_cost_nothing(box: SandboxHandle, snapshots: SnapshotStore) -> None:
    made = await box.run_cell(
        "import os\n"
        "for number in range(100):\n"
        "    with open(f'sparse{number}', 'wb') as file:\n"
        "        file.truncate(15 << 20)\n"
        "with open('sparse0', 'r+b') as file:\n"
        "    file.seek(5 << 20); file.write(b'data' * 1000); file.seek(9 << 20); file.write(b'more')\n"
    )
    assert made.ok, made
    taken = await snapshots.take(box)
    assert taken.size_bytes < 1 << 20
    await box.run_cell("import os\nfor name in os.listdir(): os.unlink(name)")
    await snapshots.rollback(box, taken.id)
    told = await box.run_cell(
        "import os\n"
        "content = open('sparse0', 'rb').read()\n"
        "print(len(content), content.count(b'data'), content.find(b'data') >> 20)\n"
        "print(content.find(b'more') >> 20)\n"
        "print(sum(os.stat(name).st_size for name in os.listdir()) >> 20)\n"
        "used = sum(os.stat(name).st_blocks for name in os.listdir()) * 512\n"
        "open('empty', 'wb').truncate(1 << 20)\n"
        "print(used < 1 << 20 or os.stat('empty').st_blocks > 0)\n"  # gVisor counts holes of files
    )
    assert told.stdout.decode().split() == ["15728640", "1000", "5", "9", "1500", "True"], told


# Stops and kills all processes that it can; a timer continues its own.
_ATTACKER = """
import sys
import ctypes, os, signal, struct, time
libc = ctypes.CDLL(None, use_errno=True)
event = ctypes.create_string_buffer(struct.pack("Qii", 0, signal.SIGCONT, 0) + bytes(48))
timer = ctypes.c_void_p()
print(libc.timer_create(1, event, ctypes.byref(timer)), flush=True)
libc.timer_settime(timer, 0, struct.pack("4q", 0, 500_000, 0, 500_000), None)
own = {1, os.getpid(), os.getppid()}
while True:
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) not in own and int(name) > os.getpid():
            for number in (signal.SIGSTOP, signal.SIGKILL):
                try:
                    os.kill(int(name), number)
                except OSError:
                    pass
    if sys.argv[1] != "gvisor":  # which lets process 1 be killed; then the sandbox ends and says so
        for number in (signal.SIGSTOP, signal.SIGKILL):
            os.kill(1, number)
"""


async def test_code_inside_cannot_keep_a_snapshot_from_being_taken(
    backend: Backend, box: SandboxHandle, snapshots: SnapshotStore
) -> None:
    await box.files.write("attack.py", _ATTACKER)
    await box.files.write("large", bytes(range(256)) * (8 << 12))
    kind = "gvisor" if "runsc" in backend.name else "other"
    attack = await box.processes.start(["python3", "attack.py", kind])
    async with asyncio.timeout(20):
        while (await box.processes.list_all())[0].output_end == 0:
            await asyncio.sleep(0.02)
    async with asyncio.timeout(60):
        taken = await snapshots.take(box, kernel=False)
    assert taken.size_bytes > 8 << 20
    await box.processes.signal(attack.pid, 9)


async def test_a_snapshot_is_of_one_moment_and_what_ran_goes_on(
    box: SandboxHandle, snapshots: SnapshotStore
) -> None:
    await box.files.write(
        "count.py",
        "import os\n"
        "number = 0\n"
        "files = [open(name, 'wb', 0) for name in ('a', 'z')]\n"
        "while True:\n"
        "    number += 1\n"
        "    for file in files: os.pwrite(file.fileno(), b'%09d' % number, 0)\n",
    )
    for name in ("b", "c"):
        await box.files.write(name, bytes(4 << 20))
    counting = await box.processes.start(["python3", "count.py"])
    sleeping = await box.processes.start(["sleep", "1000"])
    async with asyncio.timeout(20):
        while not await box.files.exists("z") or not await box.files.read("z"):
            await asyncio.sleep(0.02)
    await box.processes.signal(sleeping.pid, signal.SIGSTOP)
    state_of = f"cut -d' ' -f3 /proc/{sleeping.pid}/stat"
    async with asyncio.timeout(20):
        while (await box.run_shell(state_of)).stdout.strip() != b"T":
            await asyncio.sleep(0.02)
    taken = await snapshots.take(box, kernel=False)
    before = int(await box.files.read("z"))
    async with asyncio.timeout(20):
        while int(await box.files.read("z")) <= before:
            await asyncio.sleep(0.02)
    state = await box.run_shell(state_of)
    assert state.stdout.strip() == b"T"  # it was stopped before the snapshot, not by it
    await box.processes.signal(counting.pid, signal.SIGKILL)
    await snapshots.rollback(box, taken.id)
    numbers = [int(await box.files.read(name)) for name in ("a", "z")]
    assert 0 <= numbers[0] - numbers[1] <= 1


async def test_packing_and_unpacking_end_in_time(box: SandboxHandle) -> None:
    await box.files.write("large", bytes(range(256)) * (8 << 12))

    async def stalled() -> AsyncIterator[bytes]:
        yield b""
        await asyncio.sleep(1000)

    with pytest.raises(errors.SandboxTimeout):
        await box.files.unpack(stalled(), still=True, timeout=0.2)
    async with aclosing(box.files.pack(still=True, timeout=0.2)) as pieces:
        await anext(pieces)
        await asyncio.sleep(0.4)
        with pytest.raises(errors.SandboxTimeout):
            [piece async for piece in pieces]
    assert (await box.run_cell("1 + 1")).rich[0].data["text/plain"] == b"2"
    assert len(b"".join([piece async for piece in box.files.pack()])) > 8 << 20


async def test_a_mount_in_the_workspace_is_neither_kept_nor_emptied(
    backend: Backend, snapshots: SnapshotStore
) -> None:
    with tempfile.TemporaryDirectory() as shown:
        os.chmod(shown, 0o777)
        Path(shown, "precious").write_bytes(bytes(3 << 20))
        spec = Spec(mounts=(Mount(shown, "/workspace/in/data", writable=True),))
        box = await backend.create(spec)
        await box.files.write("own", "1")
        taken = await snapshots.take(box)
        assert taken.size_bytes < 1 << 20
        await box.files.write("own", "2")
        await box.files.write("new/file", "2")
        await snapshots.rollback(box, taken.id)
        assert await box.files.read("own") == b"1"
        assert not await box.files.exists("new")
        assert os.listdir(shown) == ["precious"]
