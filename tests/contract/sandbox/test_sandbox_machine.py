"""Resources of the whole machine: memory that no control group counts, and tables shared by all processes."""

import asyncio
import ctypes
import errno
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from portico.sandbox.backend import Backend
from portico.sandbox.handle.sandbox_handle import SandboxHandle
from portico.sandbox.spec import Limits, Spec

MIB = 1 << 20
OVERCOMMIT = Path("/proc/sys/vm/nr_overcommit_hugepages")

# Each occupies as much kernel memory as it can in a process of its own: 300 to 600 MB if nothing limits it.
HOARDERS = {
    "datagrams": """
for _ in range(700):
    s = socket.socket(2, 2); kept.append(s)
    s.setsockopt(1, 8, 1 << 20); s.bind(('127.0.0.1', 0)); s.setblocking(False)
    for _ in range(15): s.sendto(bytes(60_000), s.getsockname())
""",
    "unfinished datagrams": """
for _ in range(900):
    s = socket.socket(2, 2); kept.append(s); s.connect(('127.0.0.1', 9))
    s.send(bytes(60_000), socket.MSG_MORE)
""",
    "answers of the kernel": """
for _ in range(250):
    s = socket.socket(16, 3, 0); kept.append(s); s.setblocking(False)
    s.setsockopt(1, 7, 1 << 20); s.setsockopt(1, 8, 1 << 20)
    for _ in range(10): s.send(struct.pack('IHHII', 200_000, 16, 1, 1, 0) + bytes(199_984))
""",
    "messages to oneself": """
s = socket.socket(16, 3, 2); s.setsockopt(1, 7, 1 << 20)
for _ in range(250):
    r = socket.socket(16, 3, 2); kept.append(r); r.setsockopt(1, 8, 1 << 20); r.bind((0, 0))
    with contextlib.suppress(OSError):
        for _ in range(15): s.sendto(bytes(60_000), socket.MSG_DONTWAIT, r.getsockname())
""",
    "streams": """
server = socket.create_server(('127.0.0.1', 0), backlog=200)
for _ in range(70):
    a = socket.create_connection(server.getsockname()); b = server.accept()[0]; kept += a, b
    for s in (a, b):
        s.setblocking(False)
        with contextlib.suppress(OSError):
            while s.send(bytes(65_536)): pass
""",
    "packets with a timestamp": """
server = socket.create_server(('127.0.0.1', 0), backlog=100)
for _ in range(60):
    a = socket.create_connection(server.getsockname(), 1); b = server.accept()[0]; kept += a, b
    a.setsockopt(1, 18, 8 << 20); b.settimeout(1)  # SO_RCVLOWAT
    for _ in range(120):
        left = a.sendmsg([bytes(60_000)], [(1, 37, struct.pack('I', 0x302))])
        while left > 0: left -= len(b.recv(65_536))
""",
    "connections not accepted": """
for _ in range(4):
    server = socket.create_server(('127.0.0.1', 0), backlog=1_000); kept.append(server)
    for _ in range(800):
        s = socket.create_connection(server.getsockname(), 0.1); s.setblocking(False)
        with contextlib.suppress(OSError):
            while s.send(bytes(65_536)): pass
        s.close()
""",
    "keys of connections": """
for _ in range(900):
    s = socket.socket(); kept.append(s)
    with contextlib.suppress(OSError):
        for n in range(600):
            peer = struct.pack('>HHI', 0x200, 0, 0x7f000001 + n).ljust(128, bytes(1))
            s.setsockopt(6, 14, peer + struct.pack('BBHI80s', 0, 0, 1, 0, b'key'))
""",
    "groups joined": """
for i in range(50):
    s = socket.socket(10, 2); kept.append(s)
    with contextlib.suppress(OSError):
        for n in range(2_500): s.setsockopt(41, 20, struct.pack('>H8xHI', 0xff02, i, n) + struct.pack('I', 1))
""",
}
HOARD = """
import contextlib, os, select, socket, struct, time
ready, tell = os.pipe()
for number in range({count}):
    if not os.fork():
        kept = []
        try:
            exec({codes}[number])
        except OSError: pass
        finally:
            os.write(tell, b'x'); time.sleep(60); os._exit(0)
for _ in range({count}): os.read(ready, 1)
print('full', flush=True)
time.sleep(1)
"""


def available() -> int:
    with open("/proc/meminfo") as table:
        return next(int(line.split()[1]) for line in table if line.startswith("MemAvailable")) * 1024


async def taken(box: SandboxHandle, code: str) -> int:
    """Return by how many bytes the machine's free memory decreases while a cell runs."""
    before = least = available()
    cell = asyncio.ensure_future(box.run_cell(code, timeout=20))
    while not cell.done():
        least = min(least, available())
        await asyncio.sleep(0.02)
    result = await cell
    assert b"full" in result.stdout or result.end.failure, result
    return before - least


async def test_what_the_kernel_keeps_for_a_sandbox_is_within_its_limit(backend: Backend) -> None:
    """All ways at once. One of three measurements must pass, since other programs use the machine too."""
    uncounted = "TCP buffers" in backend.capabilities.missing
    of_one_socket = ("streams", "packets with a timestamp")
    wanted = [name for name in HOARDERS if not (uncounted and name in of_one_socket)]
    code = HOARD.format(count=len(wanted), codes=[HOARDERS[name] for name in wanted])
    limits = Limits(memory_bytes=128 * MIB, processes=32)
    least = 1 << 62
    for _ in range(3):
        box = await backend.create(Spec(limits=limits))
        least = min(least, await taken(box, code))
        await box.destroy()
        if least < limits.memory_bytes + 256 * MIB:
            return
    raise AssertionError(f"{least / MIB:.0f} MiB are gone, and {limits.memory_bytes / MIB:.0f} are allowed")


# Each must raise an error with one of these numbers, which programs take for a kernel without the feature.
REFUSED = {
    "asynchronous input and output": ("l.syscall(206, 1, ctypes.byref(ctypes.c_ulong()))", errno.ENOSYS),
    "a filter of one's own": ("l.syscall(317, 1, 0, 0)", errno.EINVAL),
    "a filter of one's own, the old way": ("l.prctl(22, 2, 0, 0, 0)", errno.EINVAL),
    "SCTP": ("socket.socket(2, 1, 132)", errno.EPROTONOSUPPORT),
    "SCTP by its type": ("socket.socket(2, 5, 0)", errno.EPROTONOSUPPORT),
    "MPTCP": ("socket.socket(10, 1, 262)", errno.EPROTONOSUPPORT),
    "UDP-Lite": ("socket.socket(2, 2, 136)", errno.EPROTONOSUPPORT),
    "a filter of a socket": ("socket.socket().setsockopt(1, 26, bytes(16))", errno.EPERM),
    "a connection without `connect`": ("socket.socket().sendto(b'x', 1 << 29, ('', 9))", errno.EOPNOTSUPP),
    "keys of connections": ("socket.socket().setsockopt(6, 14, bytes(216))", errno.EPERM),
    "labels of flows": ("socket.socket(10).setsockopt(41, 32, bytes(32))", errno.EPERM),
    "TLS in the kernel": ("socket.socket().setsockopt(6, 31, b'tls')", errno.EPERM),
    "huge pages": ("mmap(-1, 1 << 21, flags=0x40022)", errno.ENOMEM),
    "a file of huge pages": ("os.memfd_create('x', 4)", errno.EINVAL),
    "shared huge pages": ("l.shmget(0, 1 << 21, 0o5600)", errno.ENOMEM),
    **{
        f"netlink {protocol}": (f"socket.socket(16, 3, {protocol})", errno.EPROTONOSUPPORT)
        for protocol in (2, 4, 6, 9, 11, 12, 15, 16, 20, 21)
    },
}


@pytest.fixture
def huge_pages() -> Iterator[None]:
    """Provide a few huge pages that any process may use, if this process is allowed to."""
    had = OVERCOMMIT.read_text()
    with suppress(OSError):
        OVERCOMMIT.write_text("8")
    yield
    with suppress(OSError):
        OVERCOMMIT.write_text(had)


@pytest.mark.xdist_group("huge pages")
@pytest.mark.usefixtures("huge_pages")
async def test_what_is_the_machines_is_refused(box: SandboxHandle) -> None:
    if os.uname().machine != "x86_64":
        pytest.skip("the numbers are x86_64's")
    code = f"""
import ctypes, os, socket
from mmap import mmap
l = ctypes.CDLL(None, use_errno=True)
got = {{}}
for name, (code, wanted) in {REFUSED}.items():
    try:
        number = ctypes.get_errno() if eval(code) == -1 else 0
    except OSError as error: number = error.errno
    if number != wanted: got[name] = number
print(got)
"""
    result = await box.run_cell(code)
    assert result.stdout == b"{}\n", result


async def test_a_process_has_no_more_than_its_share_of_files_timers_and_priority(box: SandboxHandle) -> None:
    names = ("NOFILE", "MSGQUEUE", "NICE", "RTPRIO")
    code = f"import resource\n[resource.getrlimit(getattr(resource, 'RLIMIT_' + n))[1] for n in {names}]"
    told = (await box.run_cell(code)).rich[0].data["text/plain"].decode()
    files, queues, nice, priority = (int(word) for word in told.strip("[]").split(","))
    assert 0 < files <= 1_024
    assert (queues, nice, priority) == (0, 0, 0)


async def test_terminals_run_out_for_a_sandbox_only(backend: Backend, box: SandboxHandle) -> None:
    if "terminals" in backend.capabilities.missing:
        pytest.skip(backend.capabilities.missing["terminals"])
    code = """
import os
kept = []
try:
    while len(kept) < 100: kept.append(os.openpty())
except OSError: pass
len(kept)
"""
    count = int((await box.run_cell(code)).rich[0].data["text/plain"])
    assert 4 <= count <= 16 or backend.capabilities.tier == "gvisor"  # gVisor has terminals of its own
    process = await (await backend.create(Spec())).processes.start("true", terminal=(24, 80))
    assert process.pid


async def test_inotify_runs_out_for_a_sandbox_only(backend: Backend, box: SandboxHandle) -> None:
    if "user" in backend.capabilities.missing:  # other tests' containers would lack inotify for that time
        pytest.skip(backend.capabilities.missing["user"])
    hoard = "import ctypes\nl = ctypes.CDLL(None)\nwhile l.inotify_init1(0) >= 0: pass"
    assert (await box.run_cell(hoard)).ok
    instance = ctypes.CDLL(None, use_errno=True).inotify_init1(os.O_CLOEXEC)
    assert instance >= 0, os.strerror(ctypes.get_errno())
    os.close(instance)
    other = await backend.create(Spec())
    own = "import ctypes; ctypes.CDLL(None).inotify_init1(0) >= 0"
    assert (await other.run_cell(own)).rich[0].data["text/plain"] == b"True"


async def test_programs_find_the_sockets_that_they_are_used_to(box: SandboxHandle) -> None:
    code = """
import socket, threading
names = [name for _, name in socket.if_nameindex()]
assert names == ['lo'], names
assert socket.getaddrinfo('127.0.0.1', 80, flags=socket.AI_ADDRCONFIG)
server = socket.create_server(('127.0.0.1', 0), backlog=200)
ends = [(socket.create_connection(server.getsockname()), server.accept()) for _ in range(200)]
one, other = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
for s in (one, other):
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    s.bind(('127.0.0.1', 0))
one.sendto(b'x', other.getsockname())
assert other.recv(9) == b'x'
failed = []
def ask():
    for _ in range(100):
        try: socket.if_nameindex()
        except OSError as error: failed.append(error)
threads = [threading.Thread(target=ask) for _ in range(8)]
for t in threads: t.start()
for t in threads: t.join()
print(failed)
"""
    result = await box.run_cell(code)
    assert result.stdout == b"[]\n", result


async def test_a_sandbox_whose_sockets_are_used_up_has_them_again(box: SandboxHandle) -> None:
    code = """
import socket
kept = []
try:
    while len(kept) < 700: kept.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
except OSError as error: print(error.errno)
kept.clear()
socket.if_nameindex() and socket.socket(socket.AF_INET, socket.SOCK_DGRAM) and None
"""
    result = await box.run_cell(code)
    assert result.ok, result
    assert result.stdout in (b"%d\n" % errno.ENOBUFS, b"%d\n" % errno.EMFILE, b"")
