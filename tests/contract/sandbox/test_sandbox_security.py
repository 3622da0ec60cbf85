"""Attempts to escape from a sandbox, executed inside of it; all must fail."""

import asyncio
import os
import socket
import sys
from pathlib import Path

import pytest

from portico.sandbox import errors
from portico.sandbox.backend import Backend
from portico.sandbox.handle.sandbox_handle import SandboxHandle
from portico.sandbox.spec import Mount, Spec

# System call numbers of x86_64.
SYSCALLS = {
    "ptrace": (101, 0), "mount": (165, 0), "umount": (166, 0), "pivot_root": (155, 0), "chroot": (161, 0),
    "unshare user": (272, 0x10000000), "unshare net": (272, 0x40000000), "setns": (308, 0),
    "clone user": (56, 0x10000011), "clone3": (435, 0), "keyctl": (250, 0), "add_key": (248, 0),
    "request_key": (249, 0), "bpf": (321, 0), "perf_event_open": (298, 0), "io_uring_setup": (425, 8),
    "userfaultfd": (323, 0), "open_by_handle_at": (304, 0), "init_module": (175, 0), "kexec_load": (246, 0),
    "reboot": (169, 0), "process_vm_readv": (310, 1), "swapon": (167, 0), "clock_settime": (227, 0),
    "sethostname": (170, 0), "personality": (135, 0x40000), "iopl": (172, 3), "move_mount": (429, 0),
    "fsopen": (430, 0), "open_tree": (428, 0), "mount_setattr": (442, 0), "pidfd_getfd": (438, 0),
    "name_to_handle_at": (303, 0), "fanotify_init": (300, 0), "modify_ldt": (154, 0), "syslog": (103, 3),
}  # fmt: skip

# Cells that must raise an error.
CODE = {
    "write /proc/sys": "open('/proc/sys/kernel/core_pattern', 'w').write('x')",
    "remount /proc/sys": "import os; os.open('/proc/sys/vm/overcommit_ratio', os.O_WRONLY)",
    "sysrq": "open('/proc/sysrq-trigger', 'w').write('h')",
    "kcore": "open('/proc/kcore', 'rb').read(1)",
    "process 1's environment": "open('/proc/1/environ', 'rb').read()",
    "process 1's memory": "open('/proc/1/mem', 'r+b')",
    "process 1's descriptors": "import os; os.listdir('/proc/1/fd')",
    "write /usr": "open('/usr/x', 'w')",
    "write /etc": "open('/etc/x', 'w')",
    "write /": "open('/x', 'w')",
    "write the interpreter": "import os; open(os.__file__, 'a')",
    "device node": "import os; os.mknod('/tmp/sda', 0o60600, os.makedev(254, 0))",
    "block device": "open('/dev/vda', 'rb')",
    "kvm": "open('/dev/kvm', 'rb')",
    "memory device": "open('/dev/mem', 'rb')",
    "fuse": "open('/dev/fuse', 'rb')",
    "control groups": "import os, glob\nfor place in ['/sys/fs/cgroup', *glob.glob('/sys/fs/cgroup/*/')]:\n    try: os.mkdir(place + 'x')\n    except OSError: continue\n    break\nelse: raise OSError",  # noqa: E501
    "release agent": "open('/sys/fs/cgroup/memory/release_agent', 'w')",
    "homes": "import os; os.listdir('/root')",
    "docker": "import socket; socket.socket(socket.AF_UNIX).connect('/var/run/docker.sock')",
    "vsock": "import socket; socket.socket(40, socket.SOCK_STREAM)",
    "packet": "import socket; socket.socket(17, 3, 0)",
    "raw": "import socket; socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)",
    "alg": "import socket; socket.socket(38, 5)",
    "bluetooth": "import socket; socket.socket(31, 3)",
    "setuid": "import os; os.setuid(0)",
    "setgroups": "import os; os.setgroups([0])",
    "process 1's limits": "import resource; resource.prlimit(1, resource.RLIMIT_NOFILE, (10, 10))",
    "more descriptors": "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (1 << 20, 1 << 20))",
    "terminal injection": "import fcntl, os; fcntl.ioctl(os.openpty()[1], 0x5412, b'x')",
    "leases": "import fcntl, os; fcntl.fcntl(os.open('/tmp/f', os.O_CREAT), 1024, 0)",
    "who uses a directory": "import fcntl, os; fcntl.fcntl(os.open('/usr', 0), fcntl.F_NOTIFY, 1)",
    "controlling terminal": "open('/dev/tty', 'r+b', buffering=0)",
    "metadata": "import socket; socket.create_connection(('169.254.169.254', 80), 1)",
    "public address": "import socket; socket.create_connection(('1.1.1.1', 53), 1)",
    "private address": "import socket; socket.create_connection(('10.0.0.1', 80), 1)",
    "ipv6": "import socket; socket.create_connection(('2606:4700:4700::1111', 53), 1)",
    "names": "import socket; socket.getaddrinfo('example.com', 80)",
    "stop process 1": "import os, signal; os.kill(1, signal.SIGKILL); os.kill(1, signal.SIGSTOP); 1 / 0",
    "setuid program": "import subprocess; subprocess.run(['su', '-c', 'id'], stdin=subprocess.DEVNULL, check=True)",  # noqa: E501
}  # fmt: skip


async def test_dangerous_system_calls_are_refused(box: SandboxHandle) -> None:
    if os.uname().machine != "x86_64":
        pytest.skip("the numbers are x86_64's")
    through = {}
    for name, (number, argument) in SYSCALLS.items():
        code = f"import ctypes; l = ctypes.CDLL(None, use_errno=True); (l.syscall({number}, {argument}, 0, 0, 0, 0), ctypes.get_errno())"  # noqa: E501
        answer = (await box.run_cell(code)).rich[0].data["text/plain"].decode()
        if answer not in ("(-1, 1)", "(-1, 38)"):
            through[name] = answer
    assert through == {}


async def test_attempts_to_get_out_fail(backend: Backend, box: SandboxHandle) -> None:
    through = []
    for name, code in CODE.items():
        end = (await box.run_cell(code)).end
        if isinstance(end.failure, errors.SandboxGone) and "survival" in backend.capabilities.missing:
            box = await backend.create(Spec())  # the attempt ended the sandbox's own process 1
        elif end.error is None:
            through.append(name)
        assert (await box.run_cell("1")).ok, f"{name} broke the kernel"
    if "devices" in backend.capabilities.missing:  # gVisor has its own devices, separate from the machine's
        through = [name for name in through if name not in ("device node", "fuse")]
    if "agent" in backend.capabilities.missing:
        through = [name for name in through if not name.startswith("process 1's ")]
    assert through == []


async def test_another_architectures_system_calls_kill_the_process(
    backend: Backend, box: SandboxHandle
) -> None:
    if os.uname().machine != "x86_64":
        pytest.skip("i386 calls exist on x86_64 only")
    code = """
import ctypes, mmap, os
page = mmap.mmap(-1, 4096, prot=7)
page.write(b"\\xb8\\x14\\x00\\x00\\x00\\xcd\\x80\\xc3")  # mov eax, 20; int 0x80; ret
pid = os.fork()
if not pid:
    ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()
    os._exit(0)
os.WTERMSIG(os.waitpid(pid, 0)[1])"""
    killed = (await box.run_cell(code)).rich[0].data["text/plain"]
    assert killed == b"31" or "architecture" in backend.capabilities.missing


async def test_privileges_are_gone_and_cannot_come_back(backend: Backend, box: SandboxHandle) -> None:
    lines = (await box.run_shell("cat /proc/self/status")).stdout.decode().splitlines()
    status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    wanted = dict.fromkeys(("CapEff", "CapPrm", "CapBnd", "CapInh", "CapAmb"), "0" * 16)
    wanted |= {"NoNewPrivs": "1", "Seccomp": "2"}
    if backend.capabilities.tier == "gvisor":  # which does not show all fields
        wanted = {name: value for name, value in wanted.items() if name in status}
        assert {"CapEff", "CapBnd", "Seccomp"} <= set(wanted)
    assert {name: status.get(name) for name in wanted} == wanted
    assert status["Uid"].startswith("1000")


async def test_no_secret_of_the_owner_is_inside(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORTICO_TEST_SECRET", "hunter2")
    box = await backend.create(Spec())
    seen = (await box.run_shell("env; cat /proc/*/environ")).stdout
    seen += (await box.run_cell("import os; print(dict(os.environ))")).stdout
    assert b"hunter2" not in seen
    assert b"PORTICO_TEST_SECRET" not in seen


async def test_only_its_own_descriptors_are_inherited(box: SandboxHandle) -> None:
    listed = await box.run_shell(["/bin/ls", "/proc/self/fd"])
    assert set(listed.stdout.split()) <= {b"0", b"1", b"2", b"3"}
    inside = await box.run_cell(
        "import os\nprint([os.readlink(f'/proc/self/fd/{n}') for n in os.listdir('/proc/self/fd') if os.path.exists(f'/proc/self/fd/{n}')])"  # noqa: E501
    )
    assert b"/dev/null" in inside.stdout
    assert inside.stdout.count(b"socket:") <= 1


async def test_the_hosts_listeners_cannot_be_reached(box: SandboxHandle) -> None:
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as abstract:
        name = f"\0portico-test-{os.getpid()}"
        abstract.bind(name)
        abstract.listen()
        port = tcp.getsockname()[1]
        code = f"import socket; socket.create_connection(('127.0.0.1', {port}), 1)"
        assert (await box.run_cell(code)).end.error is not None
        assert (await box.run_cell(f"socket.socket(socket.AF_UNIX).connect({name!r})")).end.error is not None


async def test_processes_outside_cannot_be_seen_or_signalled(box: SandboxHandle) -> None:
    assert (await box.run_cell(f"import os; os.kill({os.getpid()}, 0)")).end.error is not None
    seen = (await box.run_shell("ls -d /proc/[0-9]* | wc -l")).stdout
    assert int(seen) < 8


async def test_neighbours_share_nothing(backend: Backend) -> None:
    one, other = [await backend.create(Spec()) for _ in range(2)]
    code = "import socket; s = socket.socket(socket.AF_UNIX); s.bind('\\0shared'); s.listen()\nopen('/tmp/mine', 'w')\nopen('/dev/shm/mine', 'w')"  # noqa: E501
    assert (await one.run_cell(code)).ok
    assert (
        await other.run_cell("import socket; socket.socket(socket.AF_UNIX).connect('\\0shared')")
    ).end.error
    assert (await other.run_shell("ls /tmp /dev/shm /workspace | grep mine")).exit_code == 1
    await one.run_cell("import os; os.kill(-1, 9)")
    assert (await other.run_cell("1")).ok
    assert (await one.run_cell("1")).ok


async def test_terminals_run_out_for_itself_only(backend: Backend, box: SandboxHandle) -> None:
    code = "import os\nwhile True: os.openpty()"
    assert (await box.run_cell(code)).end.error is not None
    other = await backend.create(Spec())
    assert (await other.run_cell("import os; os.openpty()")).ok


async def test_a_sandbox_that_is_gone_says_why(box: SandboxHandle) -> None:
    running = asyncio.ensure_future(box.run_cell("import time; time.sleep(30)"))
    await asyncio.sleep(0.1)
    await box.destroy("expired")
    failure = (await running).end.failure
    assert isinstance(failure, errors.SandboxGone)
    with pytest.raises(errors.SandboxGone) as caught:
        await box.run_shell("true")
    assert caught.value.cause == "expired"
    await box.destroy()


async def test_the_interpreters_of_cell_and_shell_are_the_same(box: SandboxHandle) -> None:
    version = f"{sys.version_info.major}.{sys.version_info.minor}".encode()
    assert (
        await box.run_shell("python3 -c 'import sys; print(\"%d.%d\" % sys.version_info[:2])'")
    ).stdout.strip() == version


async def test_a_mount_as_its_owner_is_refused_where_it_cannot_be(backend: Backend, tmp_path: Path) -> None:
    """No backend mounts a directory of root as its owner, and only the local one mounts any."""
    if os.geteuid() == 0:
        os.chown(tmp_path, 0, 0)
    with pytest.raises((errors.Unsupported, errors.BackendUnavailable), match="owner"):
        await backend.create(Spec(mounts=(Mount(str(tmp_path), "/data", as_owner=True),)))
