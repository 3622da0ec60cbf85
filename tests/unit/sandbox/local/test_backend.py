"""The local backend: tiers, the pool, replacement of zygotes, and that no process or mount remains."""

import asyncio
import json
import os
import shlex
import signal
import subprocess
import sys
import textwrap
import time
from glob import glob
from pathlib import Path
from typing import Any

import pytest
from support.syscall_traces import no_traces, traces

from portico.sandbox import errors, warm_pool
from portico.sandbox.inside import seccomp
from portico.sandbox.local import cgroups, process_owner, zygotes
from portico.sandbox.local.backend import FULL, RLIMITS, LocalBackend, LocalSettings
from portico.sandbox.local.local_sandbox import LocalBox
from portico.sandbox.local.process_owner import ProcessOwner
from portico.sandbox.local.templates import PLAIN, ZygoteTemplate
from portico.sandbox.local.zygotes import ZygoteProcess, kind_of
from portico.sandbox.spec import Limits, Mount, Spec
from portico.sandbox.warm_pool import MOST, WarmPool

SOURCE = Path(__file__).parents[4] / "sandbox"


def descriptors(backend: LocalBackend) -> int:
    """The descriptors of this process, except the two per pooled sandbox."""
    return len(os.listdir("/proc/self/fd")) - 2 * len(backend._boxes)


def mounted() -> set[str]:
    """The mounts of the kinds that sandboxes have; other programs may mount other kinds meanwhile."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return {line for line in lines if line.partition(" - ")[2].split()[0] in ("tmpfs", "devpts", "proc")}


async def test_the_end_of_a_sandbox_without_mounts_leaves_its_spec_alone(backend: LocalBackend) -> None:
    box = await backend.create(Spec())
    spec = box.spec
    await box.destroy()
    assert box.id not in backend._boxes
    assert box.spec is spec


async def test_many_sandboxes_by_many_clients_leave_nothing(backend: LocalBackend) -> None:
    box = await backend.create(Spec())
    await box.run_cell("1")
    await box.destroy()
    await filled(backend)
    before, mounts = descriptors(backend), mounted()

    async def client(number: int) -> None:
        for turn in range(4):
            box = await backend.create(Spec())
            code = f"import subprocess; subprocess.Popen(['sleep', '60']); {number} + {turn}"
            result = await box.run_cell(code)
            assert result.rich[0].data["text/plain"] == str(number + turn).encode()
            await box.destroy()

    await asyncio.gather(*(client(number) for number in range(10)))
    await filled(backend)
    assert descriptors(backend) <= before + 1
    assert mounted() == mounts
    # glob ignores directories that are removed meanwhile; Path.glob does so only in later releases of Python.
    found = glob(f"/sys/fs/cgroup/**/portico-{ProcessOwner.current().name}/sbx_*", recursive=True)
    groups = {os.path.basename(path) for path in found}
    assert groups == {box.group.name for box in backend._boxes.values()}
    await backend.close()
    assert await no_traces(), traces()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_nothing_outlives_an_owner_that_is_killed(number: int) -> None:
    program = """
        import asyncio, os, sys
        from portico.sandbox.local.backend import LocalBackend
        from portico.sandbox.local.process_owner import ProcessOwner
        from portico.sandbox.spec import Spec
        async def main():
            backend = LocalBackend()
            await backend.open()
            boxes = [await backend.create(Spec()) for _ in range(3)]
            for box in boxes:
                await box.processes.start("setsid nohup sleep 1000")
            print(ProcessOwner.current().name, flush=True)
            await asyncio.gather(*(box.run_cell("while True: pass") for box in boxes))
        asyncio.run(main())
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", textwrap.dedent(program), stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    owner = ProcessOwner.parse((await process.stdout.readline()).decode().strip())
    assert owner is not None
    assert traces(owner)
    process.send_signal(number)
    await process.wait()
    for _ in range(100):
        if not any(trace.startswith("process") for trace in traces(owner)):
            break
        await asyncio.sleep(0.05)
    async with LocalBackend():  # the next owner removes what the operating system does not
        assert await no_traces(owner), traces(owner)


async def test_a_process_that_bears_the_mark_of_a_dead_owner_is_killed() -> None:
    dead = await asyncio.create_subprocess_exec("true")
    await dead.wait()
    orphan = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "import time; time.sleep(60)",
        f"{process_owner.MARK}{ProcessOwner(dead.pid, 1).name}",
    )
    async with asyncio.timeout(10):
        while process_owner.MARK.encode() not in Path(f"/proc/{orphan.pid}/cmdline").read_bytes():
            await asyncio.sleep(0.01)  # it has not yet executed its program
    process_owner.kill_orphans()
    assert await orphan.wait() == -signal.SIGKILL


def plain(backend: LocalBackend) -> ZygoteTemplate:
    return backend._templates._templates[PLAIN]


async def filled(backend: LocalBackend, spec: Spec | None = None) -> WarmPool[LocalBox]:
    """The full pool for a spec (default: the plain one)."""
    one = backend._templates._templates[kind_of(spec or Spec())].pool
    async with asyncio.timeout(20):
        while one.busy:
            await asyncio.sleep(0.01)
    return one


@pytest.mark.parametrize("pool_size", [0, 2])
async def test_a_waiting_sandbox_takes_on_what_is_asked_for(pool_size: int) -> None:
    async with LocalBackend(LocalSettings(pool_size=pool_size)) as backend:
        assert len((await filled(backend)).ready) == pool_size
        waiting = set(backend._boxes)
        limits = Limits(memory_bytes=64 << 20, processes=16, cpus=0.5)
        box = await backend.create(Spec(env={"A": "b"}, limits=limits), "sbx_named")
        assert box.id == "sbx_named"
        assert len(waiting & set(backend._boxes)) == len(waiting) - 1
        first = await box.run_cell("import os; print(os.environ['A'], _)")
        assert (first.stdout, first.end.execution_count) == (b"b \n", 1)
        assert (await box.run_shell("echo $A")).stdout == b"b\n"
        code = "import resource as r\n[r.getrlimit(k)[1] for k in (r.RLIMIT_NPROC, r.RLIMIT_FSIZE)]"
        for _ in range(2):  # the existing kernel, and one that is started later
            assert (await box.run_cell(code)).rich[0].data["text/plain"] == b"[17, 268435456]"
            await box.restart_kernel()
        end = (await box.run_cell("bytearray(100 << 20)")).end
        assert end.failure is not None or end.error is not None
        other = await backend.create(Spec(limits=Limits(disk_bytes=8 << 20, inodes=100)))
        size = await other.run_cell("import os; s = os.statvfs('/tmp'); (s.f_blocks * s.f_frsize, s.f_files)")
        assert size.rich[0].data["text/plain"] == b"(8388608, 100)"
        assert (await other.run_cell("import os; 'A' in os.environ")).rich[0].data["text/plain"] == b"False"
    assert await no_traces(), traces()


async def test_a_waiting_sandbox_that_has_ended_is_passed_over(backend: LocalBackend) -> None:
    await filled(backend)
    waiting = list(backend._boxes.values())
    for box in waiting:
        box.kill()
    async with asyncio.timeout(10):
        while any(box.gone is None for box in waiting):
            await asyncio.sleep(0.01)
    made = await asyncio.gather(*(backend.create(Spec()) for _ in range(4)))
    assert all([(await box.run_cell("1")).ok for box in made])


async def test_more_than_wait_are_made_when_asked_for(backend: LocalBackend) -> None:
    made = await asyncio.gather(*(backend.create(Spec()) for _ in range(8)))
    assert len({box.id for box in made}) == 8
    results = await asyncio.gather(*(box.run_cell("1") for box in made))
    assert all(result.ok for result in results)


async def test_after_a_rush_more_wait_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    async with LocalBackend() as backend:
        await filled(backend)
        await asyncio.gather(*(backend.create(Spec()) for _ in range(6)))
        assert (await filled(backend)).extra == 4  # one per caller who found the pool empty
        other = Spec(preload=("decimal",))
        await backend.create(other)
        assert (await filled(backend, other)).extra == 0  # the pool of a new template is empty anyway
        await asyncio.gather(*(backend.create(other) for _ in range(MOST)))
        await filled(backend, other)
        pools = list(backend._templates.demand.pools)
        assert sum(one.extra for one in pools) == MOST  # of all pools together
        monkeypatch.setattr(warm_pool, "_LATELY", 0.0)
        waiting = len(backend._boxes)
        for one in pools:
            assert one._easing is not None
            one._easing.cancel()
            one._ease()
            assert one.extra == 0
            assert one._easing is None
        async with asyncio.timeout(20):
            while len(backend._boxes) > waiting - MOST:
                await asyncio.sleep(0.01)
    assert await no_traces(), traces()


async def test_a_worn_zygote_is_replaced_and_its_sandboxes_live_on(
    backend: LocalBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = await backend.create(Spec())
    monkeypatch.setattr(zygotes, "MAX_FORKS", 1)
    new = await backend.create(Spec())
    assert backend._zygote_of[old.id] is not backend._zygote_of[new.id]
    assert (await old.run_cell("1")).ok
    worn = backend._zygote_of[old.id]
    await old.destroy()
    async with asyncio.timeout(10):
        while worn._control is not None:
            await asyncio.sleep(0.01)
    assert (await new.run_cell("1")).ok


async def test_modules_are_preloaded_and_mounts_are_seen(backend: LocalBackend, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "note").write_text("from the host")
    mounts = (Mount(str(tmp_path), "/workspace/data"), Mount(str(tmp_path), "/data"))
    box = await backend.create(Spec(preload=("decimal",), mounts=mounts))
    assert (await box.run_cell("import sys; print('decimal' in sys.modules)")).stdout == b"True\n"
    assert await box.files.read("data/note") == b"from the host"
    assert await box.files.read("/data/note") == b"from the host"
    assert (await box.run_cell("open('/data/new', 'w')")).end.error is not None
    with pytest.raises(errors.BackendUnavailable):
        await backend.create(Spec(mounts=(Mount("/nonsense", "/data"),)))
    with pytest.raises(errors.InvalidRequest, match="no_such_module"):
        await backend.create(Spec(preload=("no_such_module",)))


async def test_nothing_of_a_mount_is_preloaded(backend: LocalBackend, tmp_path: Path) -> None:
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    (tmp_path / "planted.py").write_text("")
    for target in ("/data", "/workspace/x", "/opt/x", "/tmp/x", *sys.path):
        try:
            spec = Spec(mounts=(Mount(str(tmp_path), target),), preload=("planted",))
            spec.check()
        except errors.InvalidRequest:
            continue
        with pytest.raises(errors.SandboxError, match=r"preload: planted|cannot start|would hide"):
            await backend.create(spec)


@pytest.mark.parametrize("groups", [True, False])
async def test_modules_that_take_too_much_are_refused_by_name(
    groups: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not groups:
        monkeypatch.setattr(cgroups, "find", lambda _owner: cgroups.CgroupHierarchy())
    async with LocalBackend(LocalSettings(preload_bytes=40 << 20)) as backend:
        if groups and "memory" not in backend._hierarchy.controllers:
            pytest.skip("NOT TESTED: no control group for memory can be made here")
        with pytest.raises(errors.SandboxError) as refused:
            await backend.create(Spec(preload=("numpy", "matplotlib.pyplot")))
        assert isinstance(refused.value, errors.LimitExceeded if groups else errors.InvalidRequest)
        assert "preload: matplotlib.pyplot" in refused.value.message
        if isinstance(refused.value, errors.LimitExceeded):
            assert refused.value.limit == "preload"
        assert (await (await backend.create(Spec())).run_cell("1")).ok
    assert await no_traces(), traces()


@pytest.mark.parametrize(
    ("code", "left"),
    [
        ("from threading import Event, Thread; Thread(target=Event().wait, daemon=True).start()", "threads"),
        ("from threading import Timer; Timer(0.1, int).start()", ""),
        ("import subprocess; subprocess.Popen(['sleep', '9'])", "processes"),
        ("import subprocess; subprocess.run(['true'])", ""),
    ],
)
def test_modules_that_leave_something_running_are_refused(code: str, left: str, tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text(code)
    program = """
        import sys
        from portico.sandbox.inside import calls, preload
        sys.path.insert(0, sys.argv[1])
        try:
            preload.load(["json", "module"])
        except calls.Failure as error:
            print(error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), tmp_path], capture_output=True, text=True, check=True
    )
    assert done.stdout == (f"preload: module: it leaves {left} running\n" if left else "")


async def test_modules_that_write_caches_can_be_preloaded(backend: LocalBackend) -> None:
    box = await backend.create(Spec(preload=("matplotlib.pyplot",)))
    shown = await box.run_cell("import os, sys; ('matplotlib.pyplot' in sys.modules, os.listdir('/tmp'))")
    assert shown.rich[0].data["text/plain"] == b"(True, [])"
    figure = await box.run_cell("import matplotlib.pyplot as plt; plt.plot([1, 2]); plt.show()")
    assert figure.end.error is None


async def test_a_zygote_is_counted_and_has_room_for_its_sandboxes(backend: LocalBackend) -> None:
    if "memory" not in backend._hierarchy.controllers:
        pytest.skip("NOT TESTED: no control group for memory can be made here")
    boxes = [await backend.create(Spec()) for _ in range(40)]
    nursery = backend._zygote_of[boxes[0].id]._nursery
    most = nursery._number("memory", ("memory.limit_in_bytes", "memory.max"))
    assert most is not None
    used = nursery.memory_bytes()
    assert used is not None
    assert 5 << 20 < used < most
    assert most > backend._settings.preload_bytes + len(boxes) * (2 << 20)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can show a directory as its owner")
async def test_a_mount_as_its_owner_is_read_and_written_by_nobody_else(
    backend: LocalBackend, tmp_path: Path
) -> None:
    shared, secret = tmp_path / "shared", tmp_path / "shared/secret"
    shared.mkdir()
    secret.write_text("x")
    for path in (shared, secret):
        os.chown(path, 4321, 8765)
        path.chmod(0o700)
    spec = Spec(mounts=(Mount(str(shared), "/data", writable=True, as_owner=True),))
    boxes = [await backend.create(spec) for _ in range(2)]
    for number, box in enumerate(boxes):
        said = await box.run_shell(f"cat /data/secret && echo {number} > /data/{number} && stat -c %u /data")
        assert said.stdout == b"x1000\n", said
    made = [(shared / str(number)).stat() for number in range(2)]
    assert [(state.st_uid, state.st_gid) for state in made] == [(4321, 8765)] * 2
    reading = Spec(mounts=(Mount(str(shared), "/workspace/data", as_owner=True),))
    box = await backend.create(reading)
    assert await box.files.read("data/secret") == b"x"
    assert not (await box.run_shell("echo y > data/secret")).ok
    plain = await backend.create(Spec(mounts=(Mount(str(shared), "/data", writable=True),)))
    assert not (await plain.run_shell("cat /data/secret")).ok
    with pytest.raises(errors.BackendUnavailable, match="root"):
        await backend.create(Spec(mounts=(Mount(str(tmp_path), "/data", as_owner=True),)))


async def test_without_control_groups_the_tier_says_so_and_limits_hold(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cgroups, "find", lambda _owner: cgroups.CgroupHierarchy())
    with pytest.raises(errors.BackendUnavailable):
        await LocalBackend(LocalSettings(minimum_tier=FULL)).open()
    async with LocalBackend() as backend:
        assert backend.capabilities.tier == RLIMITS
        assert set(backend.capabilities.missing) == {"memory", "processes", "cpus"}
        box = await backend.create(Spec(limits=Limits(memory_bytes=128 << 20, processes=20)))
        end = (await box.run_cell("bytearray(1 << 30)")).end
        assert end.error is not None
        assert end.error.limit == "memory"
        bomb = "import os, time\nwhile True:\n  if not os.fork(): time.sleep(60)"
        end = (await box.run_cell(bomb)).end
        assert end.error is not None
        assert end.error.limit == "pids"
        await box.pause()
        await box.resume()
        await box.restart_kernel()
        assert (await box.run_cell("1")).ok


async def test_an_ordinary_user_can_do_it_too(tmp_path: Path) -> None:
    python = Path("/usr/bin/python3")
    version = subprocess.run(
        [python, "-c", "import sys; print(sys.version_info >= (3, 11))"], capture_output=True
    )
    if os.geteuid() != 0 or version.stdout != b"True\n":
        pytest.skip("needs root to become another user, and a Python that user can run")
    program = """
        import asyncio, os
        from portico.sandbox.local.backend import LocalBackend
        from portico.sandbox.spec import Limits, Spec
        async def main():
            async with LocalBackend() as backend:
                box = await backend.create(Spec(limits=Limits(processes=20)))
                print(backend.capabilities.tier)
                print((await box.run_cell("import os; (os.getuid(), os.listdir('/workspace'))")).rich[0].data)
                status = await box.run_shell("grep -c 'CapEff:.0000000000000000' /proc/self/status")
                print(status.stdout)
                print((await box.run_cell("open('/proc/1/environ')")).end.error.name)
                bomb = "import os, time\\nwhile True:\\n  if not os.fork(): time.sleep(60)"
                print((await box.run_cell(bomb)).end.error.limit)
                await box.destroy()
        asyncio.run(main())
    """
    process = await asyncio.create_subprocess_exec(
        python, "-c", textwrap.dedent(program), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        user=65_534, group=65_534, extra_groups=[], env={"PYTHONPATH": str(SOURCE)}, cwd="/",
    )  # fmt: skip
    out = (await process.communicate())[0].decode().splitlines()
    assert out == [RLIMITS, "{'text/plain': b'(1000, [])'}", "b'1\\n'", "PermissionError", "pids"], out


def test_the_filter_is_small_and_is_made_for_known_machines_only() -> None:
    assert len(seccomp.program("x86_64")) // 8 < 320
    assert seccomp.program("aarch64") != seccomp.program("x86_64")
    with pytest.raises(KeyError):
        seccomp.program("vax")


async def test_the_end_of_a_zygote_is_told_and_a_new_one_takes_over(backend: LocalBackend) -> None:
    box = await backend.create(Spec())
    process = backend._zygote_of[box.id]._process
    assert process is not None
    process.kill()
    failure = (await box.run_cell("import time; time.sleep(9)")).end.failure
    assert isinstance(failure, errors.SandboxGone)
    fresh = await backend.create(Spec())
    assert (await fresh.run_cell("1")).ok


def process_of(box: LocalBox) -> int:
    """The number of process 1 in this process's PID namespace."""
    lines = Path(f"/proc/self/fdinfo/{box._pidfd}").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pid:"))


async def test_a_sandbox_is_in_all_its_groups_from_the_start(backend: LocalBackend) -> None:
    places = backend._hierarchy.places()
    if not places:
        pytest.skip("NOT TESTED: no control groups can be made here")
    box = await backend.create(Spec())
    first = process_of(box)
    (kernel,) = children(first)
    for pid in (first, kernel):
        groups = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
        assert len([line for line in groups if line.endswith(f"/{box.group.name}")]) == len(places)


async def test_a_zygote_sees_the_groups_into_which_it_gives_birth_and_a_sandbox_does_not(
    backend: LocalBackend,
) -> None:
    """The first is required where control groups are mounted with nsdelegate, as by systemd."""
    box = await backend.create(Spec())
    first = process_of(box)
    zygote = int(Path(f"/proc/{first}/stat").read_bytes().rpartition(b")")[2].split()[1])
    here, there, inside = (os.readlink(f"/proc/{pid}/ns/cgroup") for pid in ("self", zygote, first))
    assert there == here
    assert inside != here


async def test_a_group_that_is_gone_before_the_birth_ends_one_creation_only(
    backend: LocalBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not backend._hierarchy.places():
        pytest.skip("NOT TESTED: no control groups can be made here")
    ways_in = cgroups.SandboxCgroup.join_descriptors

    def pulled_away(group: cgroups.SandboxCgroup) -> tuple[list[int], list[int]]:
        found = ways_in(group)
        for place in backend._hierarchy.places():
            (place / group.name).rmdir()
        return found

    await filled(backend)
    monkeypatch.setattr(cgroups.SandboxCgroup, "join_descriptors", pulled_away)
    with pytest.raises(errors.BackendUnavailable):
        await backend._make(Spec(), plain(backend))
    monkeypatch.undo()
    assert (await (await backend._make(Spec(), plain(backend))).run_cell("1")).ok


async def test_what_is_being_made_when_the_backend_closes_ends_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    backend = LocalBackend(LocalSettings(spares=0))
    before = descriptors(backend)
    await backend.open()
    fork, born, closing = ZygoteProcess.fork, asyncio.Event(), asyncio.Event()

    async def slow(*arguments: Any) -> int:
        pidfd = await fork(*arguments)
        born.set()
        await closing.wait()
        return pidfd

    monkeypatch.setattr(ZygoteProcess, "fork", slow)
    making = asyncio.ensure_future(backend.create(Spec()))
    await born.wait()
    ending = asyncio.ensure_future(backend.close())
    await asyncio.sleep(0.05)
    closing.set()
    began = time.monotonic()
    await ending
    assert time.monotonic() - began < cgroups._PATIENCE / 2  # no process survived that it had to wait for
    with pytest.raises(errors.SandboxError):
        await making
    assert await no_traces(), traces()
    assert descriptors(backend) == before


async def test_a_sandbox_that_comes_when_nobody_waits_any_more_is_let_go(backend: LocalBackend) -> None:
    await filled(backend)
    zygote = await plain(backend).starting
    assert zygote._control is not None
    before = descriptors(backend)
    making = asyncio.ensure_future(backend._make(Spec(), plain(backend)))

    def answered() -> None:
        zygote._answered()
        making.cancel()

    asyncio.get_running_loop().add_reader(zygote._control, answered)
    with pytest.raises(asyncio.CancelledError):
        await making
    asyncio.get_running_loop().add_reader(zygote._control, zygote._answered)
    assert descriptors(backend) == before


async def test_an_end_that_nobody_waits_for_any_more_is_an_end(backend: LocalBackend) -> None:
    box = await backend.create(Spec())
    ending = asyncio.ensure_future(box.destroy())
    await asyncio.sleep(0)
    ending.cancel()
    await asyncio.gather(ending, return_exceptions=True)
    await box.destroy()
    assert not [place for place in backend._hierarchy.places() if (place / box.group.name).exists()]


async def test_a_zygote_has_nothing_left_of_its_rehearsal() -> None:
    async with LocalBackend(LocalSettings(spares=0)) as backend:
        outer = (await plain(backend).starting)._process
        assert outer is not None
        zygote = Path(f"/proc/{children(outer.pid)[0]}")
        assert not children(int(zygote.name))
        opened = [os.readlink(descriptor) for descriptor in (zygote / "fd").iterdir()]
        assert len([name for name in opened if not name.startswith("net:")]) == 4  # and that of its owner
        assert len([name for name in opened if name.startswith("net:")]) <= 3  # its own, and those in stock
        status = dict(line.split(":\t") for line in (zygote / "status").read_text().splitlines())
        assert int(status["SigCgt"], 16) & ~(3 << 31) == 0  # the C library handles two for its threads
        for number in (signal.SIGINT, signal.SIGPIPE):
            assert int(status["SigIgn"], 16) & 1 << number - 1
        box = await backend.create(Spec())
        cell = await box.run_cell("import sys; _, 'x' in vars(), sys.path.count('/workspace')")
        assert cell.rich[0].data["text/plain"] == b"('', False, 1)"
        assert cell.end.execution_count == 1


def children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def test_a_caller_with_few_descriptors_has_sandboxes() -> None:
    program = """
from portico.sandbox import BaseSandbox
with BaseSandbox() as box:
    print(box.run_ipython_cell("6 * 7"))
"""
    command = f"ulimit -Sn 256 && exec {shlex.quote(sys.executable)} -c {shlex.quote(program)}"
    started = await asyncio.create_subprocess_shell(
        command,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    output, _ = await started.communicate()
    assert b"'42'" in output, output.decode()


def test_the_interpreters_code_lies_in_huge_pages() -> None:
    """The interpreter goes on running; without huge pages the code is not moved."""
    program = """
        import ctypes
        from portico.sandbox.inside import huge_pages, linux
        start, end = huge_pages._aligned(*huge_pages._code())
        try:
            room = linux.mmap_anonymous(2 * huge_pages.HUGE)
            ctypes.memset(room, 1, 2 * huge_pages.HUGE)
            linux.collapse(-(-room // huge_pages.HUGE) * huge_pages.HUGE, huge_pages.HUGE)
            possible = max(0, end - start)
        except OSError:
            possible = 0
        moved = huge_pages.take_code()
        import json, decimal, sqlite3
        maps = [line.split() for line in open("/proc/self/maps")]
        here = [line for line in maps if line[0].startswith(f"{start:08x}-")]
        print(json.dumps([possible, moved, [line[1:3] + line[5:] for line in here]]))
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(SOURCE)}, capture_output=True)
    assert done.returncode == 0, done.stderr
    possible, moved, here = json.loads(done.stdout)
    assert moved == possible
    if not possible:
        pytest.skip("NOT TESTED: no huge pages here, or an interpreter with little code")
    assert here == [["r-xp", "00000000"]]  # not a mapping of a file


def test_the_memory_that_forks_share_lies_in_huge_pages() -> None:
    program = """
        from portico.sandbox.inside import huge_pages
        kept = [bytes(400) for _ in range(40_000)]
        moved = huge_pages.take_data()
        state = open("/proc/self/smaps_rollup").read()
        huge = next(int(line.split()[1]) for line in state.splitlines() if line.startswith("AnonHugePages"))
        assert all(piece == bytes(400) for piece in kept)
        print(moved, huge << 10)
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(SOURCE)}, capture_output=True)
    assert done.returncode == 0, done.stderr
    moved, huge = map(int, done.stdout.split())
    if not moved:
        pytest.skip("NOT TESTED: no huge pages here")
    assert huge >= moved > 4 << 20


async def test_a_directory_of_more_entries_than_a_page_is_listed_whole(backend: LocalBackend) -> None:
    box = await backend.create(Spec(limits=Limits(inodes=25_000)))
    assert (await box.run_cell("for n in range(20_010): open(f'/tmp/{n:05}', 'w').close()")).ok
    listed = await box.files.list_directory("/tmp")
    assert [entry.path for entry in listed] == [f"/tmp/{number:05}" for number in range(20_010)]
