"""The configuration of a container for untrusted code, in terms of Docker's API.

The engine's own system call filter stays in place. The supervisor adds a second one before it serves calls,
so a call passes only if both allow it: io_uring, vsock, keyrings, namespaces and other architectures' calls
are refused. Nothing here requires the engine to be on this machine.
"""

from typing import Any, Final

from portico.sandbox import errors
from portico.sandbox.spec import Limits, Mount, Spec

UID: Final = 1000
_SENTRY: Final = 128  # threads that gVisor itself may have; the engine's limit counts them, too
_NANO: Final = 1_000_000_000
# Of one TCP socket: control groups v1 have no other limit. Loopback needs no more.
_BUFFERS: Final = {"net.ipv4.tcp_rmem": "4096 131072 131072", "net.ipv4.tcp_wmem": "4096 16384 262144"}
# Writable file systems. Each gets its share, in sixteenths, of the disk limit.
_SHARES: Final = {"/workspace": 13, "/tmp": 2, "/dev/shm": 1}  # noqa: S108


def is_gvisor(runtime: str) -> bool:
    return runtime.startswith("runsc")


def check_mounts(mounts: tuple[Mount, ...], *, remapped: bool) -> None:
    """Refuses a mount in which code inside would be the owner without `as_owner`: unless the engine maps user
    ids, a container's user is the machine's user with the same number. Raises Unsupported."""
    for mount in mounts:
        assert mount.opened is not None
        is_owner = mount.opened.owner[0] == UID and not remapped
        if mount.as_owner and not is_owner:
            raise errors.Unsupported(
                f"mount {mount.source} as its owner: code in a container of this engine is not its owner"
            )
        if is_owner and not mount.as_owner:
            raise errors.Unsupported(
                f"mount {mount.source}: code in a container is user {UID}, who owns it; allow it by mounting "
                "it as its owner, or turn on the engine's userns-remap"
            )


def config(
    spec: Spec, image: str, runtime: str, labels: dict[str, str], cpus: int, sources: list[str]
) -> dict[str, Any]:
    """Returns the body of the call that creates a container.

    Args:
        spec: The specification of the sandbox.
        image: The image's name.
        runtime: The engine's name of the runtime; empty for its default.
        labels: Labels of the container.
        cpus: Number of the engine's CPUs.
        sources: The paths of the mounts' sources, as the engine finds them.
    """
    return {
        "Image": image,
        "Cmd": list(spec.preload),
        "Hostname": "sandbox",
        "User": f"{UID}:{UID}",
        "Labels": labels,
        "OpenStdin": True,
        "StdinOnce": True,  # standard input ends with the owner, and then the supervisor ends everything
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
        "PidsLimit": limits.processes + 1 + (_SENTRY if is_gvisor(runtime) else 0),  # 1: the supervisor
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
        "AutoRemove": False,  # its exit state is inspected before it is removed
        "Init": False,  # the supervisor is process 1
    }
    if not is_gvisor(runtime):  # gVisor has its own network stack
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
