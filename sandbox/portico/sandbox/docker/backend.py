"""The docker backend: runs sandboxes as containers, keeps a warm pool, and removes every container it
made."""

import asyncio
import os
import re
import secrets
import time
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from portico.sandbox import errors
from portico.sandbox.docker import hardening, images
from portico.sandbox.docker.bind_mounts import Binds, sweep
from portico.sandbox.docker.docker_sandbox import DockerBox
from portico.sandbox.docker.engine import Engine, NotFoundInEngine
from portico.sandbox.docker.settings import DockerSettings
from portico.sandbox.events import Capabilities
from portico.sandbox.local.environment import BIN, ENVIRONMENT
from portico.sandbox.local.process_owner import ProcessOwner, pid_namespace_id
from portico.sandbox.mount_sources import closed, opened
from portico.sandbox.spec import Spec
from portico.sandbox.warm_pool import CallerDemand, WarmPool, claim_default

_MARK: Final = "portico.sandbox"  # labels of a container: its sandbox's id, and the process that made it
_OWNER: Final = "portico.owner"
_USUAL: Final = Spec()  # the spec of pooled sandboxes
_START_SECONDS: Final = 60.0  # including the import of preloaded modules
_LEASE: Final = 300.0  # seconds for which another machine's ended container stays for inspection
_PATH: Final = f"{BIN}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_ENFORCED: Final = {
    "memory": "MemoryLimit",
    "swap": "SwapLimit",
    "processes": "PidsLimit",
    "cpus": "CpuCfsQuota",
}

# Limits that no container has. These resources are the machine's; with gVisor they are gVisor's own.
_NOT_IN_CONTAINERS: Final = {
    "terminals": "the engine limits them only by processes and open files; the machine has kernel.pty.max",
    "user": "containers share one user, and its limits of inotify instances and pipe buffers",
}
_FIRST_TO_ASK: Final = (5, 5)  # the first kernel whose system call filter can ask process 1

# What gVisor's release of 2022 lacks or does differently; a test covers each case.
_NOT_IN_GVISOR: Final = {
    "inodes": "gVisor does not count files; the memory they need is limited",
    "pause": "gVisor does not support it",
    "checkpoints": "gVisor does not support them",
    "survival": "out of memory or processes, or without its process 1, the whole sandbox ends",
    "orphans": "processes that a killed command left behind by setsid end with a reset or with the sandbox",
    "terminal signals": "^C typed in a terminal does not reach its processes; SignalProcess does",
    "agent": "code inside can read the supervisor's memory, which holds no secret; gVisor does not hide it",
    "devices": "device nodes can be made and /dev/fuse opened; both are gVisor's own, not the machine's",
    "architecture": "gVisor itself answers the system calls of another architecture",
}


class DockerBackend:
    """Creates sandboxes as containers. Use `async with`, or `open` and `close`. All methods run on the event
    loop that opened it."""

    templates = 0  # these sandboxes are not forked from another process

    def __init__(self, settings: DockerSettings | None = None) -> None:
        self._settings = settings or DockerSettings.from_environment()
        self.name = self._settings.backend
        self._engine = Engine(self._settings.url)
        self._boxes: dict[str, DockerBox] = {}
        self._pool = WarmPool(self._make_usual, CallerDemand(), ready=self._settings.pool_size)
        self._cpus = 1
        self._remapped = False  # whether the engine maps user ids
        self._binds = Binds()
        self._opened = False
        self.capabilities = Capabilities(self.name, "none", frozenset(), "freezer")

    async def __aenter__(self) -> "DockerBackend":
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def open(self) -> None:
        """Checks the engine, the runtime and the image, and removes containers of dead owners.

        Raises:
            BackendUnavailable: Something is missing; the message says what to do.
        """
        try:
            info = await self._engine.open()
            self.capabilities = self._describe(info)
            self._cpus = int(info.get("NCPU") or 1)
            options = " ".join(info.get("SecurityOptions") or [])
            self._remapped = "name=userns" in options or "name=rootless" in options
            await self._check_image()
            await self._sweep()
        except BaseException:
            await self._engine.close()
            raise
        self._opened = True
        self._pool.fill()

    def _describe(self, info: dict[str, Any]) -> Capabilities:
        runtimes = info.get("Runtimes") or {}
        runtime = self._settings.runtime
        if runtime and runtime not in runtimes:
            raise errors.BackendUnavailable(
                f"the Docker engine has no runtime {runtime!r}; it has {', '.join(sorted(runtimes))}"
            )
        missing = {
            limit: "the engine's machine cannot limit it"
            for limit, flag in _ENFORCED.items()
            if not info.get(flag)
        }
        if "--ignore-cgroups" in ((runtimes.get(runtime) or {}).get("runtimeArgs") or []):
            missing |= dict.fromkeys(_ENFORCED, f"{runtime} is configured to ignore control groups")
        if not any("name=seccomp" in option for option in info.get("SecurityOptions") or []):
            missing["filter"] = "the engine filters no system calls"
        if missing and not self._settings.weaker:
            reasons = "; ".join(f"{limit}: {reason}" for limit, reason in missing.items())
            raise errors.BackendUnavailable(f"sandboxes would be weaker than required: {reasons}")
        if "swap" in missing:
            missing["memory"] = "swap is not limited with it"
        if hardening.is_gvisor(runtime):
            missing |= _NOT_IN_GVISOR
            if os.geteuid() != 0:
                missing["mounts"] = "only root can pass an opened directory to gVisor"
        else:
            missing |= _NOT_IN_CONTAINERS | _of_kernel(info)
        limits = {"memory", "processes", "cpus", "inodes"} - missing.keys()
        always = {"disk", "output", "time"}
        tier = "gvisor" if hardening.is_gvisor(runtime) else runtime or "container"
        return Capabilities(self.name, tier, frozenset(limits | always), "freezer", missing)

    async def _check_image(self) -> None:
        name = self._settings.image
        image = await self._engine.image(name)
        if image is None and self._settings.registry:
            repository, _, tag = name.rpartition(":")
            await self._engine.call("pull", repository, tag=tag)
            image = await self._engine.image(name)
        if image is None:
            raise errors.BackendUnavailable(
                f"the engine has no image {name}; build it: portico sandbox build"
            )
        labels = (image.get("Config") or {}).get("Labels") or {}
        if labels.get(images.AGENT) != images.agent_digest():
            raise errors.BackendUnavailable(
                f"image {name} was built for another version of Portico; rebuild it: portico sandbox build"
            )

    async def _sweep(self) -> None:
        """Removes containers whose owner is dead. They have stopped with it, but still exist."""
        await asyncio.to_thread(sweep)
        listed = await self._engine.call("containers", all=True, filters={"label": [_MARK]})
        for container in listed:
            if await self._is_orphan(container):
                await self._engine.remove(container["Id"])

    async def _is_orphan(self, container: dict[str, Any]) -> bool:
        labels = container["Labels"]
        owner = ProcessOwner.parse(labels.get(_OWNER, ""))
        if owner is not None and owner.place == pid_namespace_id():
            return owner.ended()
        if container["State"] not in ("exited", "dead"):
            return False
        try:
            state = (await self._engine.call("inspect_container", container["Id"]))["State"]
        except NotFoundInEngine:
            return False
        ended = datetime.fromisoformat(state["FinishedAt"].partition(".")[0].rstrip("Z") + "+00:00")
        return time.time() - ended.timestamp() > _LEASE

    async def create(self, spec: Spec, sandbox_id: str | None = None, *, user_id: str = "") -> DockerBox:
        """Creates a sandbox that is ready for its first call. Raises InvalidRequest, BackendUnavailable."""
        spec.check()
        if not self._opened:
            raise errors.BackendUnavailable("the docker backend is not open")
        if spec.mounts:
            spec = replace(spec, mounts=await opened(spec.mounts))
            hardening.check_mounts(spec.mounts, remapped=self._remapped)
        box = claim_default(self._pool, _USUAL, spec, self._boxes, sandbox_id)
        if box is None:
            return await self._make(spec, sandbox_id or _new_id())
        # The answer is not awaited: calls are served in order, so the next one finds the environment.
        box.start(_environment(spec))
        return box

    async def _make_usual(self) -> DockerBox:
        return await self._make(_USUAL, _new_id())

    async def _make(self, spec: Spec, sandbox_id: str) -> DockerBox:
        box = self._boxes[sandbox_id] = DockerBox(sandbox_id, spec, self._engine, self._ended)
        box.lacking(frozenset(self.capabilities.missing))
        labels = {_MARK: sandbox_id, _OWNER: ProcessOwner.current().name}
        settings = self._settings
        try:
            sources = await asyncio.to_thread(self._sources, box) if spec.mounts else []
            config = hardening.config(spec, settings.image, settings.runtime, labels, self._cpus, sources)
            await box.boot(config)
            await self._begin(box)
            box.spec = replace(box.spec, mounts=closed(box.spec.mounts))
        except BaseException:
            await box.destroy()
            raise
        return box

    async def _begin(self, box: DockerBox) -> None:
        """Starts the kernel. Raises LimitExceeded("preload") when preloaded modules take too long."""
        try:
            async with asyncio.timeout(_START_SECONDS):
                await box.initialize(_environment(box.spec))
        except TimeoutError:
            late = f"not ready after {_START_SECONDS:g} seconds"
            if box.spec.preload:
                modules = ", ".join(box.spec.preload)
                raise errors.LimitExceeded(f"preload: {modules}: {late}", "preload") from None
            raise errors.BackendUnavailable(f"the container is {late}") from None

    def _sources(self, box: DockerBox) -> list[str]:
        """Returns the paths by which the engine finds the opened sources of the mounts."""
        sources = [mount.opened for mount in box.spec.mounts if mount.opened is not None]
        if not hardening.is_gvisor(self._settings.runtime):
            return [source.path for source in sources]  # the supervisor then reports their inodes
        if "mounts" in self.capabilities.missing:
            raise errors.Unsupported(f"mounts: {self.capabilities.missing['mounts']}")
        for source in sources:
            box.binds.append(self._binds.add(source))
        return box.binds

    def _ended(self, box: DockerBox) -> None:
        for path in box.binds:
            self._binds.remove(path)
        self._boxes.pop(box.id, None)
        if self._opened:
            self._pool.fill()  # it may have been one of the pool's

    async def close(self) -> None:
        """Destroys every sandbox; returns when no container of them is left."""
        if not self._opened:
            return
        self._opened = False
        await self._pool.close()
        await asyncio.gather(
            *(box.destroy("owner") for box in list(self._boxes.values())), return_exceptions=True
        )
        await asyncio.to_thread(self._binds.close)
        await self._engine.close()


def _new_id() -> str:
    return f"sbx_{secrets.token_hex(8)}"


def _of_kernel(info: dict[str, Any]) -> dict[str, str]:
    """Returns what the engine's kernel lacks, by its version and that of its control groups."""
    missing = {}
    if str(info.get("CgroupVersion")) != "2":
        missing["TCP buffers"] = "control groups v1 count them apart; the engine limits only each socket"
    numbers = re.findall(r"\d+", info.get("KernelVersion") or "")[:2]
    if tuple(map(int, numbers)) < _FIRST_TO_ASK:
        missing["datagrams"] = "a kernel before 5.5 counts neither datagram nor netlink sockets"
    return missing


def _environment(spec: Spec) -> dict[str, str]:
    return {**ENVIRONMENT, "PATH": _PATH, "MATPLOTLIBRC": "/etc/matplotlibrc", **spec.env}
