"""The bubblewrap backend: creates sandboxes more slowly than the local backend, but also on another root file
system than this machine's."""

import asyncio
import compileall
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from py_compile import PycInvalidationMode
from typing import Final

from portico.sandbox import errors, inside, visible_files
from portico.sandbox.bubblewrap.command import arguments, without_packages
from portico.sandbox.events import Capabilities
from portico.sandbox.inside import rlimits, seccomp
from portico.sandbox.inside.root import FILES
from portico.sandbox.local import cgroups, file_table_guard, idmaps
from portico.sandbox.local.environment import BIN, ENVIRONMENT
from portico.sandbox.local.local_sandbox import LocalBox
from portico.sandbox.local.process_owner import ProcessOwner
from portico.sandbox.mount_sources import closed, opened
from portico.sandbox.spec import Spec
from portico.sandbox.warm_pool import CallerDemand, WarmPool, claim_default

FULL: Final = "bubblewrap"
RLIMITS: Final = "bubblewrap-rlimits"  # memory is limited per process, CPU not at all
_UIDS: Final = range(300_000, 360_000)  # disjoint from those of the local backend
_USUAL: Final = Spec()  # the spec of pooled sandboxes
_BOOT_SECONDS: Final = 30.0
_PATH: Final = f"{BIN}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class BubblewrapSettings:
    """Settings of a bubblewrap backend."""

    root: Path = Path("/")  # a directory with a whole system; `/`: only this machine's programs
    pool_size: int = 0  # sandboxes in the warm pool, with the default limits


class BubblewrapBackend:
    """Creates sandboxes by bubblewrap. Use `async with`, or `open` and `close`. All methods run on the event
    loop that opened it."""

    templates = 0  # these sandboxes are not forked from another process

    def __init__(self, settings: BubblewrapSettings | None = None) -> None:
        settings = settings or BubblewrapSettings()
        self._root = settings.root
        self.name = "bubblewrap" if self._root == Path("/") else f"bubblewrap:{self._root}"
        self._program = ""
        self._code: tempfile.TemporaryDirectory[str] | None = None
        self._hierarchy = cgroups.CgroupHierarchy()
        self._boxes: dict[str, BubblewrapBox] = {}
        self._uids: set[int] = set()
        self._next_uid = secrets.choice(_UIDS)
        self._cleaning: set[asyncio.Task[None]] = set()
        self._guard: asyncio.Task[None] | None = None
        self._pool = WarmPool(lambda: self._make(_USUAL, _new_id()), CallerDemand(), ready=settings.pool_size)
        self.capabilities = Capabilities(self.name, "none", frozenset(), "signals")

    async def __aenter__(self) -> "BubblewrapBackend":
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def open(self) -> None:
        """Checks that bubblewrap works, removes sandboxes of dead owners, and fills the pool. Raises
        BackendUnavailable if bubblewrap is missing or lacks the rights."""
        program = shutil.which("bwrap")
        if program is None:
            raise errors.BackendUnavailable("bubblewrap is not installed: apt-get install bubblewrap")
        try:
            seccomp.program()
        except KeyError:
            raise errors.BackendUnavailable(f"no system call filter for {os.uname().machine}") from None
        self._program = program
        visible_files.check({"the working directory": os.getcwd()}, str(self._root))
        await asyncio.to_thread(cgroups.sweep)
        self._hierarchy = await asyncio.to_thread(cgroups.find, ProcessOwner.current())
        self._code = await asyncio.to_thread(_copy_code)
        self.capabilities = self._describe()
        try:
            box = await self.create(Spec())
            await box.destroy()
        except BaseException:
            await self.close()
            raise
        self._guard = asyncio.create_task(file_table_guard.guard(lambda: list(self._boxes.values())))
        self._pool.fill()

    def _describe(self) -> Capabilities:
        enforced = self._hierarchy.limits
        missing = {
            name: "no control group for it can be made here"
            for name in ("memory", "processes", "cpus")
            if name not in enforced
        }
        tier = RLIMITS if missing else FULL
        missing["inodes"] = "bubblewrap cannot limit them; the memory they need is limited"
        missing["preload"] = "bubblewrap preloads no modules"
        missing["TCP buffers"] = "bubblewrap cannot set how large those of one socket may be"
        missing["terminals"] = "bubblewrap limits them only by processes and open files"
        if self._root == Path("/") and (reason := without_packages()):
            missing["packages"] = reason
        freezes = "freezer" in self._hierarchy.controllers or self._hierarchy.unified
        always = frozenset({"processes", "disk", "output", "time"})
        pause = "freezer" if freezes else "signals"
        return Capabilities(self.name, tier, enforced | always, pause, missing)

    async def create(
        self, spec: Spec, sandbox_id: str | None = None, *, user_id: str = ""
    ) -> "BubblewrapBox":
        """Creates a sandbox that is ready for its first call. Raises InvalidRequest, Unsupported for
        preloaded modules, BackendUnavailable."""
        spec.check()
        if self._code is None:
            raise errors.BackendUnavailable("the bubblewrap backend is not open")
        if spec.preload:
            raise errors.Unsupported("preload: the bubblewrap backend cannot preload modules")
        if spec.mounts:
            visible_files.check_targets(mount.target for mount in spec.mounts)
            spec = replace(spec, mounts=await opened(spec.mounts))
            idmaps.check(spec.mounts)
        if any(idmaps.is_mapped(mount) for mount in spec.mounts):
            raise errors.Unsupported("mounts as their owner: not supported by the bubblewrap backend as root")
        box = claim_default(self._pool, _USUAL, spec, self._boxes, sandbox_id)
        if box is None:
            return await self._make(spec, sandbox_id or _new_id())
        # The answer is not awaited: calls are served in order, so the next one finds the environment.
        box.start(_environment(spec))
        return box

    async def _make(self, spec: Spec, name: str) -> "BubblewrapBox":
        box = self._boxes[name] = BubblewrapBox(
            name, spec, cgroups.SandboxCgroup(self._hierarchy, name), self._ended
        )
        assert self._code is not None
        try:
            box.group.make()
            box.group.limit(spec.limits)
            await self._start(box, Path(self._code.name))
            told = {
                "RLIMIT_NPROC": spec.limits.processes + 1,
                "RLIMIT_FSIZE": spec.limits.disk_bytes,
                **rlimits.ALWAYS,
            }
            if "memory" not in self._hierarchy.controllers:
                told["RLIMIT_DATA"] = spec.limits.memory_bytes
            await box.initialize(_environment(spec), told)
            box.spec = replace(box.spec, mounts=closed(box.spec.mounts))
        except BaseException as error:
            await box.destroy()
            self._ended(box)
            if isinstance(error, OSError | errors.SandboxGone):
                said = box.last_words()
                raise errors.BackendUnavailable(f"bubblewrap cannot start: {said or error}") from error
            raise
        return box

    async def _start(self, box: "BubblewrapBox", code: Path) -> None:
        ours, theirs = socket.socketpair()
        told, telling = os.pipe()
        identity: dict[str, object] = {}
        if os.geteuid() == 0:
            box.uid = self._free_uid()
            identity = {"user": box.uid, "group": box.uid, "extra_groups": []}
        try:
            command = arguments(self._program, self._root, code, box.spec, telling)
            # From this thread, because bubblewrap dies when the thread that started it ends.
            box.process = subprocess.Popen(  # type: ignore[call-overload]  # noqa: ASYNC220, S603
                [*command, str(theirs.fileno())],
                env={},
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=[theirs.fileno(), telling],
                process_group=0,
                **identity,
            )
            os.close(telling)
            telling = -1
            theirs.close()
            pid = await asyncio.to_thread(_read_pid, told)
            box.adopt(os.pidfd_open(pid))
            if self._hierarchy.places():
                await asyncio.to_thread(box.group.attach, pid)
            ours.setblocking(False)
            await asyncio.get_running_loop().create_unix_connection(lambda: box.channel, sock=ours)
            async with asyncio.timeout(_BOOT_SECONDS):
                await box.request("ping")
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
            for fd in (told, telling):
                if fd >= 0:
                    os.close(fd)

    def _free_uid(self) -> int:
        while self._next_uid in self._uids or self._next_uid not in _UIDS:
            self._next_uid = self._next_uid + 1 if self._next_uid + 1 in _UIDS else _UIDS.start
        self._uids.add(self._next_uid)
        return self._next_uid

    def _ended(self, box: LocalBox) -> None:
        known = self._boxes.pop(box.id, None)
        if known is None:
            return
        self._uids.discard(known.uid)
        task = asyncio.ensure_future(box.destroy())
        self._cleaning.add(task)
        task.add_done_callback(self._cleaning.discard)
        self._pool.fill()  # it may have been one of the pool's

    async def close(self) -> None:
        """Destroys every sandbox; returns when no process or file of them is left."""
        if self._guard is not None:
            self._guard.cancel()
        await self._pool.close()
        boxes = list(self._boxes.values())
        await asyncio.gather(*(box.destroy("owner") for box in boxes), return_exceptions=True)
        await asyncio.gather(*self._cleaning, return_exceptions=True)
        await asyncio.to_thread(cgroups.remove_own_groups, self._hierarchy)
        if self._code is not None:
            self._code.cleanup()
            self._code = None


class BubblewrapBox(LocalBox):
    """A local sandbox handle whose process 1 is a child of bubblewrap."""

    uid = 0
    process: subprocess.Popen[bytes] | None = None

    def last_words(self) -> str:
        """Returns bubblewrap's standard error, once it has ended."""
        if self.process is None or self.process.stderr is None or self.process.stderr.closed:
            return self._said
        with self.process.stderr as file:
            self._said = file.read(4096).decode(errors="replace").strip()
        return self._said

    _said = ""

    async def _clean(self) -> None:
        if self.process is not None:
            # Also kills its child: before both are ready, the child would wait for it and never end.
            os.killpg(self.process.pid, signal.SIGKILL)
            await asyncio.to_thread(self.process.wait)
            self.last_words()
        await super()._clean()


def _new_id() -> str:
    return f"sbx_{secrets.token_hex(8)}"


def _environment(spec: Spec) -> dict[str, str]:
    return {**ENVIRONMENT, "PATH": _PATH, **spec.env}


def _copy_code() -> tempfile.TemporaryDirectory[str]:
    """Copies the supervisor's code, and files of /etc that replace this machine's, to a readable
    directory."""
    folder = tempfile.TemporaryDirectory(prefix="portico-inside-")
    os.chmod(folder.name, 0o755)  # noqa: S103
    package = Path(folder.name, "code", "portico_inside")
    package.mkdir(parents=True)
    for path in Path(inside.__file__).parent.glob("*.py"):
        shutil.copyfile(path, package / path.name)
    compileall.compile_dir(package, quiet=2, invalidation_mode=PycInvalidationMode.UNCHECKED_HASH)
    for name, text in FILES.items():
        path = Path(folder.name + name)
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    for path in Path(folder.name).rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)  # regardless of this process's umask
    return folder


def _read_pid(fd: int) -> int:
    """Reads the number of process 1 that bubblewrap reports. Raises OSError when bubblewrap has ended."""
    data = b""
    while part := os.read(fd, 4096):
        data += part
        try:
            return int(json.loads(data)["child-pid"])
        except ValueError:
            continue
    raise OSError("bubblewrap ended before the sandbox had started")
