"""How a container is made so that code which nobody trusts can be run in it, in the words of Docker's API.

The engine's own filter of system calls stays in place. The agent puts a second one on top before it serves
anything, so what either refuses is refused: io_uring, vsock, keyrings, namespaces, other architectures'
calls. Nothing here depends on the engine being on this machine.
"""

from typing import Any, Final

from portico.sandbox import errors
from portico.sandbox.spec import Limits, Mount, Spec

UID: Final = 1000
_SENTRY: Final = 128  # threads that gVisor may have for itself; the engine's limit counts them, too
_NANO: Final = 1_000_000_000
# Of one TCP socket: where control groups are of version 1, nothing else bounds them. Loopback needs no more.
_BUFFERS: Final = {"net.ipv4.tcp_rmem": "4096 131072 131072", "net.ipv4.tcp_wmem": "4096 16384 262144"}
# What can be written to. Together they have the size that was asked for, in sixteenths of it.
_SHARES: Final = {"/workspace": 13, "/tmp": 2, "/dev/shm": 1}  # noqa: S108


def is_gvisor(runtime: str) -> bool:
    return runtime.startswith("runsc")


def check_mounts(mounts: tuple[Mount, ...], *, remapped: bool) -> None:
    """Refuses a mount in which code inside would be its owner without having been asked to: unless the engine
    maps user ids, a container's user is the machine's user of the same number. Raises Unsupported."""
    for mount in mounts:
        assert mount.opened is not None
        is_owner = mount.opened.owner[0] == UID and not remapped
        if mount.as_owner and not is_owner:
            raise errors.Unsupported(
                f"mount {mount.source} as its owner: in a container of this engine code is not its owner"
            )
        if is_owner and not mount.as_owner:
            raise errors.Unsupported(
                f"mount {mount.source}: code in a container is user {UID}, who owns it; allow it by showing "
                "the mount as its owner, or turn on the engine's userns-remap"
            )


def config(
    spec: Spec, image: str, runtime: str, labels: dict[str, str], cpus: int, sources: list[str]
) -> dict[str, Any]:
    """The body of a create call, for a machine with so many CPUs. The sources are the mounts' paths, as the
    engine is to find them."""
    return {
        "Image": image,
        "Cmd": list(spec.preload),
        "Hostname": "sandbox",
        "User": f"{UID}:{UID}",
        "Labels": labels,
        "OpenStdin": True,
        "StdinOnce": True,  # when the owner goes, standard input ends, and with it everything inside
        "AttachStdin": True,
        "AttachStdout": True,
        "AttachStderr": False,
        "Tty": False,
        "NetworkDisabled": True,
        "HostConfig": _host(spec, runtime, cpus, sources),
    }


def _host(spec: Spec, runtime: str, cpus: int, sources: list[str]) -> dict[str, Any]:
    limits = spec.limits
    host: dict[str, Any] = {
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges"],
        "Privileged": False,
        "ReadonlyRootfs": True,
        "Tmpfs": {path: _tmpfs(limits, share) for path, share in _SHARES.items()},
        "Mounts": [_mount(mount, path) for mount, path in zip(spec.mounts, sources, strict=True)],
        "NetworkMode": "none",
        "IpcMode": "private",
        "CgroupnsMode": "private",
        "Memory": limits.memory_bytes,
        "MemorySwap": limits.memory_bytes,
        "PidsLimit": limits.processes + 1 + (_SENTRY if is_gvisor(runtime) else 0),  # 1: the agent
        "NanoCpus": int(min(limits.cpus, cpus) * _NANO),
        "Ulimits": [
            {"Name": name, "Soft": value, "Hard": value}
            for name, value in (
                ("core", 0),
                ("fsize", limits.disk_bytes),
                ("memlock", 64 << 10),
                ("msgqueue", 0),
                ("nofile", 1_024),
                ("nice", 0),
                ("rtprio", 0),
            )
        ],
        "LogConfig": {"Type": "none"},
        "RestartPolicy": {"Name": "no"},
        "AutoRemove": False,  # how it ended is asked for before it is removed
        "Init": False,  # the agent is the init
    }
    if not is_gvisor(runtime):  # which has a network stack of its own
        host["Sysctls"] = _BUFFERS
    return host | ({"Runtime": runtime} if runtime else {})


def _tmpfs(limits: Limits, share: int) -> str:
    size, inodes = limits.disk_bytes * share // 16, max(4, limits.inodes * share // 16)
    return f"rw,nosuid,nodev,exec,size={size},nr_inodes={inodes},mode=1777,uid={UID},gid={UID}"


def _mount(mount: Mount, path: str) -> dict[str, Any]:
    return {
        "Type": "bind",
        "Source": path,
        "Target": mount.target,
        "ReadOnly": not mount.writable,
        "BindOptions": {"Propagation": "rprivate"},
    }
