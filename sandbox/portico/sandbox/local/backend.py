"""The local backend: forks sandboxes from zygotes on this machine, keeps a warm pool, and leaves no process
or control group behind."""

import asyncio
import os
import resource
import secrets
import socket
from collections.abc import Coroutine
from dataclasses import dataclass, replace
from typing import Any, Final

from portico.sandbox import errors, visible_files
from portico.sandbox.events import Capabilities
from portico.sandbox.inside import seccomp
from portico.sandbox.local import cgroups, file_table_guard, idmaps, process_owner
from portico.sandbox.local.environment import environment
from portico.sandbox.local.local_sandbox import LocalBox
from portico.sandbox.local.templates import PLAIN, ZygoteTemplate, ZygoteTemplates
from portico.sandbox.local.zygotes import PRELOAD_BYTES, ZygoteKind, ZygoteProcess, kind_of
from portico.sandbox.mount_sources import closed, opened
from portico.sandbox.spec import Limits, Spec

FULL: Final = "full"  # namespaces, system call filter, and limits for the sandbox as a whole
RLIMITS: Final = "rlimits"  # namespaces and filter; memory is limited per process, CPU not at all
_UIDS: Final = range(1_000, 61_000)  # above the zygote's first id
_USUAL: Final = Limits()


@dataclass(frozen=True, slots=True)
class LocalSettings:
    """Settings of the local backend."""

    minimum_tier: str = RLIMITS  # `full`: refuse a machine that cannot limit a sandbox as a whole
    spares: int = 2  # pooled sandboxes of each template that have run nothing; temporarily more after a rush
    pool_size: int = 0  # pooled sandboxes that have run a cell, without mounts and preloaded modules
    uid_base: int = 200_000  # first user id of sandboxes when this process is root
    preload_bytes: int = PRELOAD_BYTES  # memory limit of a zygote while it preloads modules


class LocalBackend:
    """Creates sandboxes on this machine. Use `async with`, or `open` and `close`. All methods run on the
    event loop that opened it."""

    name = "local"

    def __init__(self, settings: LocalSettings | None = None) -> None:
        self._settings = settings or LocalSettings()
        self._hierarchy = cgroups.CgroupHierarchy()
        self._zygote_of: dict[str, ZygoteProcess] = {}
        self._boxes: dict[str, LocalBox] = {}
        self._uids: dict[str, int] = {}
        self._next_uid = secrets.choice(_UIDS)
        self._zygotes_user = os.geteuid() or self._settings.uid_base
        self._templates = ZygoteTemplates(
            self._start_zygote,
            self._make,
            lambda box: self._zygote_of[box.id],
            spares=self._settings.spares,
            ready=self._settings.pool_size,
        )
        self._cleaning: set[asyncio.Task[None]] = set()
        self._guard: asyncio.Task[None] | None = None
        self._opened = False
        self.capabilities = Capabilities(self.name, "none", frozenset(), "signals")

    async def __aenter__(self) -> "LocalBackend":
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def templates(self) -> int:
        """Number of templates, including replaced zygotes that still have sandboxes."""
        return self._templates.count

    async def open(self) -> None:
        """Detects what the machine supports, removes sandboxes of dead owners, and fills the pool.

        Raises:
            BackendUnavailable: The machine does not support the required tier.
        """
        try:
            seccomp.program()
        except KeyError:
            raise errors.BackendUnavailable(f"no system call filter for {os.uname().machine}") from None
        if not process_owner.sees_processes():
            raise errors.BackendUnavailable(
                "/proc shows another PID namespace than this process's: remount it (unshare --mount-proc)"
            )
        visible_files.check({"the working directory": os.getcwd()})
        if path := visible_files.is_covered(visible_files.base()):
            raise errors.BackendUnavailable(
                f"this Python is in {path}, where a sandbox has a directory of its own; use another Python"
            )
        await asyncio.to_thread(self._sweep)
        self._hierarchy = await asyncio.to_thread(cgroups.find, process_owner.ProcessOwner.current())
        self.capabilities = self._describe()
        if self._settings.minimum_tier == FULL and self.capabilities.tier != FULL:
            await asyncio.to_thread(cgroups.remove_own_groups, self._hierarchy)
            raise errors.BackendUnavailable(f"tier {FULL} is not possible here: {self.capabilities.missing}")
        self._opened = True
        try:
            cgroups.allow_fork_into(self._hierarchy, self._zygotes_user)
            with self._templates.use(PLAIN, "") as template:
                await self._templates.zygote(template)
        except BaseException:
            await self.close()
            raise
        self._guard = asyncio.create_task(file_table_guard.guard(lambda: list(self._boxes.values())))
        template.pool.fill()

    def _sweep(self) -> None:
        process_owner.kill_orphans()
        cgroups.sweep()

    def _describe(self) -> Capabilities:
        enforced = self._hierarchy.limits
        missing = {
            name: "no control group for it can be made here"
            for name in ("memory", "processes", "cpus")
            if name not in enforced
        }
        pause = (
            "freezer" if "freezer" in self._hierarchy.controllers or self._hierarchy.unified else "signals"
        )
        always = frozenset(
            {"processes", "disk", "inodes", "output", "time"}
        )  # processes: at least by the user id
        tier = RLIMITS if missing else FULL
        if reason := visible_files.without_packages():
            missing["packages"] = reason
        return Capabilities(self.name, tier, enforced | always, pause, missing)

    async def create(self, spec: Spec, sandbox_id: str | None = None, *, user_id: str = "") -> LocalBox:
        """Creates a sandbox that is ready for its first call. Raises InvalidRequest, BackendUnavailable, and
        LimitExceeded with the limit "preload" or "templates"."""
        spec.check()
        if not self._opened:
            raise errors.BackendUnavailable("the local backend is not open")
        if spec.mounts:
            visible_files.check_targets(mount.target for mount in spec.mounts)
            spec = replace(spec, mounts=await opened(spec.mounts))
            idmaps.check(spec.mounts)
        with self._templates.use(kind_of(spec), user_id) as template:
            box = self._claim(spec, template)
            if box is None:
                with self._templates.demand.caller():
                    box = await self._make(spec, template)
            else:
                await self._adapt(box, spec)
            if box.gone is None:
                template.given[box] = user_id
        if not self._opened:
            await box.destroy("owner")
            raise errors.BackendUnavailable("the local backend has been closed")
        if sandbox_id is not None:
            self._rename(box, sandbox_id)
        template.pool.fill()
        return box

    def _claim(self, spec: Spec, template: ZygoteTemplate) -> LocalBox | None:
        limits = spec.limits
        if (limits.disk_bytes, limits.inodes) != (_USUAL.disk_bytes, _USUAL.inodes):
            return None
        # The resource limits of a pooled sandbox are set already, and can only be lowered.
        if limits.processes > _USUAL.processes or (
            self.capabilities.tier == RLIMITS and limits.memory_bytes > _USUAL.memory_bytes
        ):
            return None
        return template.pool.claim()

    def _rename(self, box: LocalBox, sandbox_id: str) -> None:
        self._boxes[sandbox_id] = self._boxes.pop(box.id)
        self._zygote_of[sandbox_id] = self._zygote_of.pop(box.id)
        self._uids[sandbox_id] = self._uids.pop(box.id)
        box.id = sandbox_id

    async def _make(self, spec: Spec, template: ZygoteTemplate) -> LocalBox:
        """Creates a sandbox for the spec; its kernel is being started."""
        zygote = await self._templates.zygote(template)
        sandbox_id = new_id()
        box = LocalBox(sandbox_id, spec, cgroups.SandboxCgroup(self._hierarchy, sandbox_id), self._ended)
        self._boxes[box.id] = box
        zygote.living += 1
        self._zygote_of[box.id] = zygote
        uid = self._uids[box.id] = self._free_uid() if zygote.mapped_by_owner else 0
        ours, theirs = socket.socketpair()
        try:
            request = {
                "uid": uid,
                "disk_bytes": spec.limits.disk_bytes,
                "inodes": spec.limits.inodes,
                "rlimits": [(getattr(resource, name), most) for name, most in self._rlimits(spec).items()],
            }
            box.group.make(self._zygotes_user)
            box.group.limit(spec.limits)
            box.adopt(await zygote.fork(request, theirs, box.group))
            ours.setblocking(False)
            await asyncio.get_running_loop().create_unix_connection(lambda: box.channel, sock=ours)
            if spec.env or spec.network.allow_hosts:
                await box.initialize(environment(spec))
            else:
                await box.request("ping")
        except BaseException as error:
            ours.close()
            await box.destroy()
            self._ended(box)
            if isinstance(error, OSError):
                raise errors.BackendUnavailable(f"a sandbox cannot be created: {error}") from error
            raise
        finally:
            theirs.close()
        return box

    async def _adapt(self, box: LocalBox, spec: Spec) -> None:
        """Applies the spec to a pooled sandbox, where it differs."""
        usual, box.spec = box.spec, spec
        try:
            if spec.limits != usual.limits:
                box.group.limit(spec.limits)
            if spec.limits != usual.limits or spec.env or spec.network.allow_hosts:
                await box.initialize(environment(spec), self._rlimits(spec))
        except BaseException as error:
            await box.destroy()
            if isinstance(error, OSError):
                raise errors.BackendUnavailable(f"a sandbox cannot be created: {error}") from error
            raise

    def _rlimits(self, spec: Spec) -> dict[str, int]:
        limits = spec.limits
        rlimits = {"RLIMIT_NPROC": limits.processes + 1, "RLIMIT_FSIZE": limits.disk_bytes}
        if "memory" not in self._hierarchy.controllers:
            rlimits["RLIMIT_DATA"] = limits.memory_bytes
        return rlimits

    def _free_uid(self) -> int:
        used = set(self._uids.values())
        while True:
            self._next_uid = self._next_uid + 1 if self._next_uid + 1 in _UIDS else _UIDS.start
            if self._next_uid not in used:
                return self._next_uid

    async def _start_zygote(self, kind: ZygoteKind) -> ZygoteProcess:
        settings, nursery = self._settings, cgroups.ZygoteCgroup(self._hierarchy)
        most = settings.preload_bytes if kind[1] else PRELOAD_BYTES
        zygote = ZygoteProcess(kind, settings.uid_base, environment(Spec()), nursery, most)
        await zygote.start()
        return zygote

    def _ended(self, box: LocalBox) -> None:
        if self._boxes.pop(box.id, None) is None:
            return
        self._uids.pop(box.id, None)
        if box.spec.mounts:
            box.spec = replace(box.spec, mounts=closed(box.spec.mounts))
        zygote = self._zygote_of.pop(box.id)
        zygote.living -= 1
        self._templates.ended(box)
        self._templates.release_zygote(zygote)
        self._later(box.destroy())

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._cleaning.add(task)
        task.add_done_callback(self._cleaning.discard)

    async def close(self) -> None:
        """Ends every sandbox and zygote; returns when no process or control group of them is left."""
        self._opened = False
        if self._guard is not None:
            self._guard.cancel()
        await self._templates.close_pools()
        await asyncio.gather(
            *(box.destroy("owner") for box in list(self._boxes.values())), return_exceptions=True
        )
        await self._templates.close()
        await asyncio.gather(*self._cleaning, return_exceptions=True)
        await asyncio.to_thread(cgroups.remove_own_groups, self._hierarchy)


def new_id() -> str:
    return f"sbx_{secrets.token_hex(8)}"
