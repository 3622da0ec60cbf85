"""The owner's side of a zygote: starts it, makes it fork sandboxes, and tells when it is to be replaced.

The sandboxes of one zygote share its memory layout and hash seed. Zygotes are replaced from time to time, so
that what one sandbox learns of these is of little use against others.
"""

import array
import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from portico.sandbox import errors, inside, visible_files
from portico.sandbox.local import idmaps
from portico.sandbox.local.cgroups import SandboxCgroup, ZygoteCgroup
from portico.sandbox.local.process_owner import MARK, ProcessOwner
from portico.sandbox.spec import Mount, Spec

_BOOT: Final = """
import _imp, importlib.machinery, socket, sys
class Finder(importlib.machinery.SourceFileLoader):
    # Code objects get another path: tracebacks inside must not show the folder, which is the host's.
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        package, _, module = name.partition(".")
        if package != "portico_inside":
            return None
        loader = cls(name, f"{sys.argv[1]}/{module or '__init__'}.py")
        return importlib.machinery.ModuleSpec(name, loader, is_package=not module)
    def get_code(self, name):
        code = super().get_code(name)
        _imp._fix_co_filename(code, f"/.portico/{name.replace('.', '/')}.py")
        return code
sys.meta_path.append(Finder)
from portico_inside import early, boot
boot.main(socket.socket(fileno=int(sys.argv[2])), int(sys.argv[3]))
"""
_START_SECONDS: Final = 60.0  # including the import of preloaded modules
_LATE: Final = f"not ready after {_START_SECONDS:g} seconds"
MAX_FORKS: Final = 2_000
MAX_AGE: Final = 1_800.0  # seconds
PRELOAD_BYTES: Final = 512 << 20  # default memory limit of a zygote until it is ready
_ROOM: Final = 64  # sandboxes beyond the existing ones for which a zygote has memory

ZygoteKind = tuple[tuple[Mount, ...], tuple[str, ...]]  # mounts, and modules to preload


def kind_of(spec: Spec) -> ZygoteKind:
    """Returns the kind of zygote that a spec needs. The order of mounts does not matter."""
    return tuple(sorted(spec.mounts, key=lambda mount: mount.target)), spec.preload


class ZygoteProcess:
    """A zygote process, as its owner sees it."""

    def __init__(
        self, kind: ZygoteKind, uid_base: int, env: dict[str, str], nursery: ZygoteCgroup, memory_bytes: int
    ) -> None:
        """`memory_bytes` is its memory limit until it is ready."""
        self.kind = kind
        self.forks = 0
        self._asked = 0
        self.living = 0
        self.started = time.monotonic()
        self._uid_base = uid_base
        self._env = env
        self._nursery = nursery
        self._memory_bytes = memory_bytes
        self._used = 0  # bytes of memory when it became ready
        self._taken: asyncio.Future[None] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._requests: dict[int, asyncio.Future[int]] = {}

    @property
    def ended(self) -> bool:
        """Whether it can no longer fork."""
        return self._control is None

    @property
    def needs_replacement(self) -> bool:
        """Whether it is to be replaced, for its age or its number of forks."""
        return self.forks >= MAX_FORKS or time.monotonic() - self.started > MAX_AGE

    @property
    def mapped_by_owner(self) -> bool:
        """Whether the owner writes its id maps, as root does."""
        return os.geteuid() == 0

    async def start(self) -> None:
        """Starts the process and waits until it can fork. Raises BackendUnavailable with what the machine
        refused, InvalidRequest for a module that cannot be imported, LimitExceeded("preload") for modules
        that take too much memory or time."""
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        code = str(Path(inside.__file__).parent)
        arguments = [code, str(theirs.fileno()), str(os.getpid()), MARK + ProcessOwner.current().name]
        # From this thread, because the zygote is killed when the thread that started it ends. An empty
        # environment, because code inside can read the environment of process 1.
        self._process = subprocess.Popen(  # noqa: ASYNC220, S603
            [sys.executable, "-I", "-c", _BOOT, *arguments],
            env={},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=[theirs.fileno()],
            cwd="/",
        )
        theirs.close()
        importing = False
        try:
            pid, most = self._process.pid, self._memory_bytes
            self._taken = asyncio.ensure_future(asyncio.to_thread(self._nursery.take, pid, most))
            await asyncio.shield(self._taken)
            async with asyncio.timeout(_START_SECONDS):
                await loop.sock_sendall(ours, json.dumps(self._describe()).encode())
                answer = await loop.sock_recv(ours, 4096)
                if answer == b"map":
                    self._map(self._process.pid)
                    await loop.sock_sendall(ours, b"k")
                    answer = await loop.sock_recv(ours, 4096)
                while answer in (b"importing", b"imported"):
                    importing = answer == b"importing"
                    answer = await loop.sock_recv(ours, 4096)
        except TimeoutError:
            answer = _LATE.encode()
        except OSError as error:
            answer = str(error).encode()
        except asyncio.CancelledError:
            ours.close()
            await asyncio.shield(self.stop())
            raise
        if answer != b'{"ready":true}':
            ours.close()
            self._process.kill()
            reason = await asyncio.to_thread(self._last_words)
            said = answer.decode(errors="replace")
            starved = bool(self._nursery.memory_kills()) or said.endswith(": MemoryError")
            await self.stop()
            if importing or (starved and self.kind[1]):  # the page that exceeded the limit may be its own
                raise self._refusal(said, starved)
            raise errors.BackendUnavailable(f"the zygote cannot start: {reason or said}")
        self._used = self._nursery.memory_bytes() or 0
        assert self._process.stderr is not None
        self._process.stderr.close()
        self._control = ours
        loop.add_reader(ours, self._answered)

    def _refusal(self, said: str, starved: bool) -> errors.SandboxError:
        """Returns the error for modules that could not be imported."""
        modules = ", ".join(self.kind[1])
        if starved:
            most = self._memory_bytes >> 20
            return errors.LimitExceeded(f"preload: {modules}: more than {most} MiB of memory", "preload")
        if said == _LATE:
            return errors.LimitExceeded(f"preload: {modules}: {said}", "preload")
        return errors.InvalidRequest(said or f"preload: {modules}: the import has ended its process")

    def _describe(self) -> dict[str, Any]:
        mounts, preload = self.kind
        return {
            "mapped_by_owner": self.mapped_by_owner,
            "uid_base": self._uid_base,
            "python": visible_files.environment(),
            "mounts": [_describe(mount) for mount in mounts],
            "preload": list(preload),
            "data_bytes": None if self._nursery.limits_memory else self._memory_bytes,
            "env": self._env,
        }

    def _map(self, pid: int) -> None:
        for name in ("uid_map", "gid_map"):
            Path(f"/proc/{pid}/{name}").write_text(f"0 {self._uid_base} 65536")

    def _last_words(self) -> str:
        assert self._process is not None
        assert self._process.stderr is not None
        with self._process.stderr as file:
            lines = file.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""

    async def fork(self, request: dict[str, Any], channel: socket.socket, group: SandboxCgroup) -> int:
        """Forks a process that serves the channel, and returns its pidfd. Raises BackendUnavailable."""
        births, lists = group.join_descriptors()
        passed = [*births, *lists]
        told = {**request, "births": len(births), "lists": len(lists)}
        try:
            for mount in filter(idmaps.is_mapped, self.kind[0]):
                passed.append(await self._mapped(mount, request["uid"]))  # noqa: PERF401  or one would leak
            if self.forks % (_ROOM // 2) == 0:
                self._make_room()
            self.forks += 1
            return await self._ask(told, [channel.fileno(), *passed])
        finally:
            for fd in passed:
                os.close(fd)

    def _make_room(self) -> None:
        """Raises its memory limit for further sandboxes: each adds page tables, and the pages that either
        side writes first after a fork."""
        each = (2 << 20) + self._used // 256
        with suppress(OSError):  # the limit cannot be lowered at once
            self._nursery.bound(self._memory_bytes + (self.living + _ROOM) * each)

    async def _mapped(self, mount: Mount, uid: int) -> int:
        """Returns the mount in which the user id `uid` is the source's owner."""
        assert mount.opened is not None
        user, group = mount.opened.owner
        namespace = await self._ask({"user": user, "group": group, "uid": uid})
        try:
            return idmaps.mapped(mount, mount.opened, namespace)
        finally:
            os.close(namespace)

    async def _ask(self, request: dict[str, Any], fds: Sequence[int] = ()) -> int:
        if self._control is None:
            raise errors.BackendUnavailable("the zygote has ended")
        self._asked += 1
        number = self._asked
        waiter: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._requests[number] = waiter
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        message = [json.dumps({**request, "id": number}).encode()]
        while True:
            try:
                self._control.sendmsg(message, rights)
                break
            except BlockingIOError:
                await asyncio.sleep(0.001)  # many requests are in flight
            except OSError as error:
                self._lost()
                raise errors.BackendUnavailable("the zygote has ended") from error
        try:
            return await waiter
        except asyncio.CancelledError:
            if not waiter.cancelled() and waiter.exception() is None:
                _close_descriptor(waiter.result())  # it arrived at the same moment
            raise

    def _answered(self) -> None:
        assert self._control is not None
        try:
            message, fds, _, _ = socket.recv_fds(self._control, 4096, 1)
        except BlockingIOError:
            return
        except OSError:
            message, fds = b"", []
        if not message:
            self._lost()
            return
        number, _, reason = message.decode().partition(" ")
        waiter = self._requests.pop(int(number), None)
        if waiter is not None and not waiter.done():
            if fds:
                waiter.set_result(fds[0])
            else:
                waiter.set_exception(errors.BackendUnavailable(reason))
        elif fds:  # the caller was cancelled
            _close_descriptor(fds[0])

    def _lost(self) -> None:
        control, self._control = self._control, None
        if control is not None:
            asyncio.get_running_loop().remove_reader(control)
            control.close()
        for waiter in self._requests.values():
            if not waiter.done():
                waiter.set_exception(errors.BackendUnavailable("the zygote has ended"))
        self._requests.clear()

    async def stop(self) -> None:
        """Kills the zygote, and with it its remaining sandboxes."""
        self._lost()
        if self._process is not None:
            self._process.kill()
            await asyncio.to_thread(self._process.wait)
            assert self._process.stderr is not None
            self._process.stderr.close()
        if self._taken is not None:
            await asyncio.wait([self._taken])  # a thread makes the groups, even if the caller was cancelled
            await self._nursery.remove()


def _describe(mount: Mount) -> dict[str, Any]:
    source = mount.opened
    assert source is not None
    return {
        "source": source.path,
        "inode": source.inode,
        "directory": source.is_directory,
        "target": mount.target,
        "writable": mount.writable,
        "mapped": idmaps.is_mapped(mount),
    }


def _close_descriptor(fd: int) -> None:
    """Ends a process that no caller wants, by its pidfd."""
    with suppress(OSError):  # the descriptor is of a user namespace
        signal.pidfd_send_signal(fd, signal.SIGKILL)
    os.close(fd)
