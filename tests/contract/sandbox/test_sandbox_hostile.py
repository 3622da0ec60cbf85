"""Code that attacks its own kernel, the supervisor and other sandboxes, not the isolation itself."""

import asyncio
import gzip
import io
import tarfile
from collections.abc import AsyncIterator

import pytest

from portico.sandbox import errors
from portico.sandbox.backend import Backend
from portico.sandbox.handle.sandbox_handle import SandboxHandle
from portico.sandbox.spec import Limits, NetworkPolicy, Spec

FORGE = (
    "import json, os, struct\ndef forge(text): os.write(900, struct.pack('!I', len(text)) + text.encode())\n"
)

# Cells that damage their own kernel. The damage is reported, and the next call or the one after it works.
SPOILERS = {
    "no builtins": "import builtins; [delattr(builtins, name) for name in ('len', 'print', 'open', 'str')]",
    "no output": "import sys; sys.stdout = sys.stderr = None",
    "output that raises": "import sys\nclass O:\n def flush(self): 1 / 0\n write = flush\nsys.stdout = O()",
    "a forged failure": FORGE + "forge(json.dumps({'end': {'error': {'kind': 'boot'}}, 'pid': 2}))",
    "closed output": "import os; os.close(1); os.close(2)",
    "no modules": "import sys; sys.modules.clear()",
    "no path": "import sys; sys.path[:] = []; sys.meta_path[:] = []",
    "a broken json": "import json; json.loads = json.dumps = None",
    "a broken displayhook": "import sys; sys.displayhook = None",
    "a trace function that raises": "import sys\ndef t(*_): 1 / 0\nsys.settrace(t)",
    "signals ignored": "import signal\nfor n in range(1, 32):\n try: signal.signal(n, signal.SIG_IGN)\n except OSError: pass",  # noqa: E501
    "deep recursion": "import sys; sys.setrecursionlimit(1 << 30)\ndef f(): return f()\nf()",
    "a forged end": FORGE + "forge(json.dumps({'end': {'count': 1, 'error': None}, 'pid': -1}))",
    "a forged end with a huge pid": FORGE
    + "forge(json.dumps({'end': {'count': [], 'error': 7}, 'pid': 1 << 80}))",
    "a forged end of nonsense": FORGE + "forge(json.dumps({'end': 'x', 'pid': 'y'}))",
    "a forged event": FORGE
    + "forge(json.dumps({'event': {'type': 'display', 'data': {'text/plain': [1]}}}))",
    "a forged event of nonsense": FORGE + "forge(json.dumps({'event': 'x'}))",
    "deeply nested JSON": FORGE + "forge('[' * 200_000)",
    "an announced giant": FORGE + "os.write(900, b'\\xff\\xff\\xff\\xff')",
    "half a frame": FORGE + "os.write(900, b'\\0\\0')",
    "a repr that raises": "class Bad:\n def __repr__(self): raise SystemExit\nBad()",
    "an exception that cannot be shown": "class E(Exception):\n def __str__(self): 1 / 0\nraise E",
    "threads that go on": "import threading, time\nfor _ in range(5): threading.Thread(target=lambda: time.sleep(60)).start()",  # noqa: E501
    "no temporary directory": "import shutil; shutil.rmtree('/tmp', ignore_errors=True)",
    "another directory, removed": "import os; os.mkdir('d'); os.chdir('d'); os.rmdir('../d')",
}


@pytest.mark.parametrize("name", SPOILERS)
async def test_a_kernel_that_is_spoilt_is_told_or_replaced(box: SandboxHandle, name: str) -> None:
    await box.run_cell(SPOILERS[name], timeout=3)
    for _ in range(3):
        if (await box.run_cell("1 + 1", timeout=3)).ok:
            break
    else:  # every call reports the damage; a restart of the kernel repairs it
        await box.restart_kernel()
    result = await box.run_cell("1 + 1")
    assert result.ok, result
    assert result.rich[0].data["text/plain"] == b"2"
    assert (await box.run_shell("echo still here")).stdout == b"still here\n"


async def test_a_cell_blocked_in_c_code_dies_at_its_deadline(box: SandboxHandle) -> None:
    code = "import ctypes, signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, range(1, 32))\nctypes.CDLL(None).sleep(60)"  # noqa: E501
    failure = (await box.run_cell(code, timeout=0.3)).end.failure
    assert isinstance(failure, errors.SandboxTimeout)
    assert failure.kernel_lost
    assert (await box.run_cell("1")).ok


async def test_what_a_killed_kernel_has_started_dies_with_it(box: SandboxHandle) -> None:
    code = """
import os, signal, subprocess
for command in ("sleep 1000", "nohup sleep 1000", "trap '' TERM INT HUP; sleep 1000"):
    subprocess.Popen(["setsid", "bash", "-c", command], stdout=subprocess.DEVNULL)
if not os.fork():
    if os.fork(): os._exit(0)
    os.setsid()
signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 32))
while True: pass
"""
    failure = (await box.run_cell(code, timeout=1)).end.failure
    assert isinstance(failure, errors.SandboxTimeout)
    async with asyncio.timeout(20):
        while b"sleep" in (await box.run_shell("cat /proc/[0-9]*/comm")).stdout:
            await asyncio.sleep(0.05)


async def test_a_flood_of_rich_results_meets_the_output_limit(backend: Backend) -> None:
    box = await backend.create(Spec(limits=Limits(output_bytes=100_000)))
    result = await box.run_cell("while True: display('x' * 10_000)")
    assert isinstance(result.end.failure, errors.LimitExceeded)
    assert result.end.failure.limit == "output"
    assert sum(len(rich.data["text/plain"]) for rich in result.rich) <= 100_000
    assert (await box.run_cell("1")).ok


async def test_output_without_a_line_end_is_cut_too(backend: Backend) -> None:
    box = await backend.create(Spec(limits=Limits(output_bytes=100_000)))
    result = await box.run_shell("head -c 1000000000 /dev/zero")
    assert isinstance(result.failure, errors.LimitExceeded)
    result = await box.run_shell("yes >&2")
    assert isinstance(result.failure, errors.LimitExceeded)


async def test_terminal_codes_and_bad_text_arrive_as_bytes(box: SandboxHandle) -> None:
    odd = b"\x1b]52;c;aGk=\x07\x1b[2J\xe2\x80\xae\x00\xff\x07"
    assert (await box.run_shell(["python3", "-c", f"import os; os.write(1, {odd!r})"])).stdout == odd


async def test_nothing_waits_for_an_input_that_nobody_gives(box: SandboxHandle) -> None:
    result = await box.run_shell("cat; read line; echo $?", timeout=10)
    assert (result.stdout, result.failure) == (b"1\n", None)


async def test_limits_of_a_process_cannot_be_raised(box: SandboxHandle) -> None:
    code = """
import resource
def raised(kind):
    soft, hard = resource.getrlimit(kind)
    try: resource.setrlimit(kind, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    except (ValueError, OSError): return False
    return hard != resource.RLIM_INFINITY
[kind for kind in (resource.RLIMIT_NOFILE, resource.RLIMIT_NPROC, resource.RLIMIT_FSIZE, resource.RLIMIT_CORE) if raised(kind)]
"""  # noqa: E501
    assert (await box.run_cell(code)).rich[0].data["text/plain"] == b"[]"


async def test_the_kernels_addresses_are_not_shown(box: SandboxHandle) -> None:
    code = "{int(line.split()[0], 16) for line in open('/proc/kallsyms')}"
    result = await box.run_cell(code)
    assert result.end.error is not None or result.rich[0].data["text/plain"] in (b"{0}", b"set()")


async def test_shared_memory_of_system_v_is_a_sandboxs_own(backend: Backend) -> None:
    one, other = [await backend.create(Spec()) for _ in range(2)]
    code = "import ctypes; l = ctypes.CDLL(None); l.shmget(0x5eed, 4096, {flags}) >= 0"
    assert (await one.run_cell(code.format(flags=0o1666))).rich[0].data["text/plain"] == b"True"
    assert (await other.run_cell(code.format(flags=0))).rich[0].data["text/plain"] == b"False"


async def test_a_busy_sandbox_leaves_its_neighbour_time(backend: Backend) -> None:
    if "cpus" not in backend.capabilities.limits:
        pytest.skip("this machine cannot limit CPU time")
    box = await backend.create(Spec(limits=Limits(cpus=0.2)))
    burn = "import time\nbegan, used = time.monotonic(), time.process_time()\nwhile time.monotonic() < began + 2: pass\n(time.process_time() - used) / (time.monotonic() - began) < 0.45"  # noqa: E501
    spinning = asyncio.ensure_future(box.run_cell(burn))
    neighbour = await backend.create(Spec())
    assert (await neighbour.run_cell("1")).ok
    held = (await spinning).rich[0].data["text/plain"] == b"True"
    if backend.capabilities.tier == "gvisor":  # whose clocks inside also count throttled time
        used = (await box.metrics()).cpu_seconds
        held = used is not None and used < 2.5
    assert held


async def test_sockets_and_threads_run_out_for_itself_only(backend: Backend, box: SandboxHandle) -> None:
    sockets = "import socket\nkept = []\nwhile True: kept.append(socket.socketpair())"
    assert (await box.run_cell(sockets)).end.error is not None
    await box.restart_kernel()
    threads = "import threading, time\nwhile True: threading.Thread(target=time.sleep, args=(60,), daemon=True).start()"  # noqa: E501
    end = (await box.run_cell(threads)).end
    if "survival" in backend.capabilities.missing:
        assert isinstance(end.failure, errors.SandboxGone) or (end.error and end.error.limit == "pids")
    else:
        assert end.error is not None
        assert end.error.limit == "pids"
        await box.reset()
        assert (await box.run_cell("1")).ok
    other = await backend.create(Spec())
    assert (await other.run_cell("import socket; socket.socketpair()")).end.error is None


async def test_a_path_that_is_swapped_while_it_is_used_leads_nowhere(box: SandboxHandle) -> None:
    await box.files.write("real/passwd", "mine")
    swap = """
import os
os.symlink('/etc', 'link')
while True:
    os.rename('real', 'kept'); os.rename('link', 'real'); os.rename('real', 'link'); os.rename('kept', 'real')
"""
    swapping = await box.processes.start(["python3", "-c", swap])
    for _ in range(200):
        try:
            assert await box.files.read("real/passwd") == b"mine"
            await box.files.write("real/passwd", "mine")
        except (errors.InvalidPath, errors.EntryNotFound, errors.OperationFailed):
            continue
    await box.processes.signal(swapping.pid, 9)


async def test_sockets_and_links_are_no_files_to_read(box: SandboxHandle) -> None:
    await box.run_cell("import os, socket; s = socket.socket(socket.AF_UNIX); s.bind('here'); s.listen()")
    with pytest.raises(errors.SandboxError):
        await box.files.read("here")
    await box.run_shell("ln /etc/passwd hard; ln -s /etc/shadow soft")
    for name in ("hard", "soft"):
        with pytest.raises(errors.SandboxError):
            await box.files.read(name)


async def test_bombs_in_archives_meet_the_limits(backend: Backend, box: SandboxHandle) -> None:
    async def once(data: bytes) -> AsyncIterator[bytes]:
        yield data

    def archive(*members: tarfile.TarInfo) -> bytes:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            for member in members:
                tar.addfile(member, io.BytesIO(bytes(member.size)))
        return buffer.getvalue()

    def member(name: str, **fields: object) -> tarfile.TarInfo:
        made = tarfile.TarInfo(name)
        for key, value in fields.items():
            setattr(made, key, value)
        return made

    with pytest.raises(errors.LimitExceeded):
        await box.files.unpack(once(gzip.compress(archive(member("zeros", size=64 << 20)))))
    await box.run_shell("rm -rf zeros")
    if "inodes" in backend.capabilities.limits:
        with pytest.raises(errors.SandboxError):
            await box.files.unpack(once(archive(*(member(str(number)) for number in range(2_000)))))
    for bad in (
        member("/absolute"),
        member("hard", type=tarfile.LNKTYPE, linkname="../../etc/passwd"),
        member("fifo", type=tarfile.FIFOTYPE),
    ):
        try:
            await box.files.unpack(once(archive(bad)), clear=True)
        except errors.SandboxError:
            continue
        assert all(entry.type == "file" for entry in await box.files.list_directory())


async def test_the_proxy_goes_nowhere_by_address(backend: Backend) -> None:
    box = await backend.create(Spec(network=NetworkPolicy(("example.test",))))
    code = """
import socket
def ask(line):
    with socket.create_connection(("127.0.0.1", 3128), 5) as s:
        s.sendall(line.encode() + b"\\r\\nHost: example.test\\r\\n\\r\\n")
        return s.recv(4096)[:12].decode()
{ask(line)[9:10] for line in (
    "CONNECT 169.254.169.254:80 HTTP/1.1", "CONNECT 127.0.0.1:22 HTTP/1.1", "CONNECT [::1]:443 HTTP/1.1",
    "CONNECT 2852039166:80 HTTP/1.1", "CONNECT 0x7f.1:443 HTTP/1.1", "CONNECT example.test:22 HTTP/1.1",
    "GET http://2130706433/ HTTP/1.1", "GET http://169.254.169.254/latest/meta-data HTTP/1.1",
    "GET http://example.test@127.0.0.1/ HTTP/1.1", "GET / HTTP/1.1", "nonsense",
)} <= {"4", ""}
"""
    result = await box.run_cell(code)
    assert result.ok, result.end
    assert result.rich[0].data["text/plain"] == b"True"


@pytest.mark.parametrize("odd", ["a\nb", "--privileged", "$(id)", "../../x", "ü" * 200, "a,b=c"])
async def test_names_that_callers_choose_are_only_text(backend: Backend, odd: str) -> None:
    box = await backend.create(Spec(env={"ODD": odd}, metadata={odd: odd}))
    code = "import os; os.environ['ODD']"
    assert (await box.run_cell(code)).rich[0].data["text/plain"].decode() == repr(odd)
    assert (await box.run_shell('printf %s "$ODD"')).stdout.decode() == odd


async def test_who_speaks_in_the_agents_name_ends_the_sandbox(box: SandboxHandle) -> None:
    forge = """
import os, struct
frame = struct.pack("!IIB", 65536, 1, 2) + bytes(65536)
for name in os.listdir("/proc/1/fd"):
    try:
        fd = os.open(f"/proc/1/fd/{name}", os.O_WRONLY | os.O_NONBLOCK)
        for _ in range(100): os.write(fd, frame)
        print("written")
    except OSError: pass
"""
    result = await box.run_shell(["python3", "-c", forge], timeout=10)
    if b"written" in result.stdout or isinstance(result.failure, errors.SandboxGone):
        async with asyncio.timeout(20):
            while box.gone is None:
                await asyncio.sleep(0.05)
        assert box.gone.cause == "protocol"
    else:
        assert (await box.run_cell("1")).ok
