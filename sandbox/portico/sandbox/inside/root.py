"""The file system of a sandbox: the tree that all sandboxes of a zygote share, and the parts of each sandbox.

The shared tree is a read-only tmpfs with the host's programs bound into it, read-only; it contains nothing
else of the host than what is named here or in the template. Each sandbox adds its own /proc, terminals and
one scratch tmpfs, which holds /workspace, /tmp and /dev/shm, so that one size and one number of inodes limit
them together.
"""

import errno
import os
from typing import Any, Final

from . import linux, paths

SYSTEM: Final = (
    "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64",
    "/etc/alternatives", "/etc/fonts", "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d",
    "/etc/localtime", "/etc/mime.types", "/etc/ssl/certs", "/etc/ssl/openssl.cnf", "/etc/ca-certificates",
    "/etc/terminfo", "/etc/magic", "/etc/ImageMagick-6", "/etc/matplotlibrc",
)  # fmt: skip
# Below visible directories, but without programs: sources, which are often a project, and settings.
MASKED: Final = ("/usr/src", "/usr/local/src", "/usr/local/etc")
_DEVICES: Final = ("null", "zero", "full", "random", "urandom", "tty")
_SCRATCH: Final = {"workspace": 0o755, "tmp": 0o1777, "shm": 0o1777}
_OWN: Final = {"workspace": "/workspace", "tmp": "/tmp", "shm": "/dev/shm"}  # noqa: S108
_PRIVATE: Final = ("root", "home")
FILES: Final = {
    "/etc/passwd": "root:x:0:0:root:/root:/usr/sbin/nologin\n"
    "sandbox:x:1000:1000:sandbox:/workspace:/bin/bash\nnobody:x:65534:65534::/:/usr/sbin/nologin\n",
    "/etc/group": "root:x:0:\nsandbox:x:1000:\nnogroup:x:65534:\n",
    "/etc/hosts": "127.0.0.1 localhost sandbox\n::1 localhost\n",
    "/etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
    "/etc/resolv.conf": "# A sandbox resolves no names; its proxy does.\n",
    "/etc/hostname": "sandbox\n",
}
_BASE: Final = "/tmp"  # noqa: S108  any directory: only this mount namespace sees what is mounted on it


class Source:
    """A file or directory of the host, held open so that it can be bound after the rights to open it are
    gone.
    """

    def __init__(self, path: str, target: str, writable: bool = False) -> None:
        self.target, self.writable = target, writable
        keeps = path in SYSTEM or path.endswith("/lib64")
        self.link = os.readlink(path) if keeps and os.path.islink(path) else ""
        self.fd = -1 if self.link else os.open(path, os.O_PATH | os.O_CLOEXEC)
        self.directory = os.path.isdir(path)

    @classmethod
    def of_mount(cls, entry: dict[str, Any], target: str) -> "Source":
        """Opens a mount's source. Raises FileNotFoundError unless the path still leads to the inode that the
        owner opened and holds; while it is held, no other file can have its number."""
        source = cls.__new__(cls)
        source.target, source.writable, source.directory = target, entry["writable"], entry["directory"]
        source.link = ""
        links = linux.RESOLVE_NO_SYMLINKS | linux.RESOLVE_NO_MAGICLINKS
        source.fd = linux.openat2(-100, entry["source"], os.O_PATH, 0, links)
        state = os.fstat(source.fd)
        if [state.st_dev, state.st_ino] != entry["inode"]:
            os.close(source.fd)
            raise FileNotFoundError(errno.ENOENT, "replaced by another one meanwhile", entry["source"])
        return source

    def bind(self, root: str) -> None:
        target = root + self.target
        _make_parents(root, self.target)
        if self.link:
            os.symlink(self.link, target)
            return
        if not os.path.lexists(target):
            _make(target, self.directory)
        linux.mount(f"/proc/self/fd/{self.fd}", target, flags=linux.MS_BIND | linux.MS_REC)
        os.close(self.fd)


def _make_parents(root: str, path: str) -> None:
    """Creates parent directories. Homes can be traversed but not listed: the interpreter may be in one."""
    for part in path.split("/")[1:-1]:
        root += "/" + part
        if not os.path.lexists(root):
            os.mkdir(root, 0o755)


def _make(target: str, directory: bool) -> None:
    if directory:
        os.makedirs(target)
    else:
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))


def open_sources(template: dict[str, Any]) -> list[Source]:
    """Opens everything that the template contains, with the rights of the user who started the zygote.

    Raises OSError for a missing mount; missing system paths are omitted.
    """
    sources = [Source(path, path) for path in SYSTEM if os.path.lexists(path)]
    sources += [Source(path, path) for path in template["python"]]
    sources += [Source(f"/dev/{name}", f"/dev/{name}") for name in _DEVICES]
    mounts = enumerate(template["mounts"])
    return sources + [
        Source.of_mount(entry, f"/mounts/{place}") for place, entry in mounts if not entry["mapped"]
    ]


def build(sources: list[Source], mounts: list[dict[str, Any]]) -> None:
    """Builds the shared tree and makes it the root directory. The caller must be root of its user namespace,
    in a new mount namespace.
    """
    linux.mount("none", "/", flags=linux.MS_REC | linux.MS_PRIVATE)
    linux.mount("tmpfs", _BASE, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, "size=1m,nr_inodes=4k,mode=755")
    for name in (
        "proc",
        "tmp",
        "workspace",
        "var/tmp",
        "dev/shm",
        "dev/pts",
        "old",
        "scratch",
        "run",
    ):
        os.makedirs(f"{_BASE}/{name}", exist_ok=True)
    for name in _PRIVATE:
        os.mkdir(f"{_BASE}/{name}", 0o711)
    for source in sources:
        source.bind(_BASE)
    if not os.path.lexists(_BASE + paths.HOME):  # unless the machine's Python is there
        os.symlink("/workspace", _BASE + paths.HOME)
    for path in MASKED:
        if os.path.isdir(_BASE + path):
            linux.mount("tmpfs", _BASE + path, "tmpfs", _PLAIN, "size=4k,nr_inodes=1,mode=755")
    for path, text in FILES.items():
        with open(_BASE + path, "w") as file:
            file.write(text)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        os.symlink(f"/proc/self/fd/{number}", f"{_BASE}/dev/{name}")
    os.symlink("/proc/self/fd", f"{_BASE}/dev/fd")
    os.symlink("pts/ptmx", f"{_BASE}/dev/ptmx")
    for entry in mounts:
        if not _in_scratch(entry["target"]) and not os.path.lexists(_BASE + entry["target"]):
            os.makedirs(os.path.dirname(_BASE + entry["target"]), exist_ok=True)
            _make(_BASE + entry["target"], entry["directory"])
    linux.mount("proc", f"{_BASE}/proc", "proc", linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC)
    linux.pivot_root(_BASE, f"{_BASE}/old")
    os.chdir("/")
    linux.umount("/old", linux.MNT_DETACH)
    os.rmdir("/old")
    writable = {source.target for source in sources if source.writable}
    for path in _mounted():
        # Device nodes must stay usable, so their binds have no nodev; flags set by the host are locked and
        # kept.
        if path in writable:
            linux.mount(
                "none", path, flags=linux.MS_REMOUNT | linux.MS_BIND | linux.MS_NOSUID | linux.MS_NODEV
            )
        elif path != "/proc":
            _read_only(path)


def _mounted() -> list[str]:
    with open("/proc/self/mountinfo") as table:
        return [line.split()[4].encode().decode("unicode_escape") for line in table]


def _read_only(path: str) -> None:
    """Remounts read-only and keeps the mount's flags; a bind inherits flags that it may not drop."""
    state = os.statvfs(path)
    flags = linux.MS_REMOUNT | linux.MS_BIND | linux.MS_RDONLY | linux.MS_NOSUID
    linux.mount("none", path, flags=flags | state.f_flag & (os.ST_NODEV | os.ST_NOEXEC))


def _in_scratch(target: str) -> bool:
    return any(target.startswith(path + "/") for path in _OWN.values())


_PLAIN: Final = linux.MS_NOSUID | linux.MS_NODEV
_SPECIAL: Final = (
    linux.step("mount", b"proc", b"/proc", b"proc", _PLAIN | linux.MS_NOEXEC, None),
    linux.step("mount", b"/proc/sys", b"/proc/sys", None, linux.MS_BIND, None),
    linux.step(
        "mount",
        b"none",
        b"/proc/sys",
        None,
        linux.MS_REMOUNT | linux.MS_BIND | linux.MS_RDONLY | _PLAIN | linux.MS_NOEXEC,
        None,
    ),
    linux.step(
        "mount",
        b"devpts",
        b"/dev/pts",
        b"devpts",
        linux.MS_NOSUID | linux.MS_NOEXEC,
        b"newinstance,ptmxmode=0666,mode=600,max=12",
    ),
)
_BOUND: Final = (
    *(
        linux.step("mount", f"/scratch/{name}".encode(), target.encode(), None, linux.MS_BIND, None)
        for name, target in (*_OWN.items(), ("tmp", "/var/tmp"))  # noqa: S108
    ),
    linux.step("umount2", b"/scratch", linux.MNT_DETACH),
)
_MADE: Final = [
    (linux.step("mkdir", path, mode), linux.step("chmod", path, mode), path)
    for path, mode in ((f"/scratch/{name}".encode(), mode) for name, mode in _SCRATCH.items())
]


def own(disk_bytes: int, inodes: int, owner: int) -> list[linux.Step]:
    """Returns steps that mount a sandbox's own parts. They run in its own mount and pid namespaces."""
    options = f"size={disk_bytes},nr_inodes={inodes},mode=755".encode()
    steps = [*_SPECIAL, linux.step("mount", b"tmpfs", b"/scratch", b"tmpfs", _PLAIN, options)]
    for make, change, path in _MADE:
        steps += make, change, linux.step("chown", path, owner, owner)
    return [*steps, *_BOUND]


def show(mounts: list[dict[str, Any]], mapped: list[int]) -> None:
    """Attaches the template's mounts at their targets. `mapped` are the descriptors of those that are mounted
    as their owner, in the same order."""
    for place, entry in enumerate(mounts):
        source, target = f"/mounts/{place}", entry["target"]
        if _in_scratch(target):
            os.makedirs(os.path.dirname(target), exist_ok=True)
            _make(target, entry["directory"])
        if entry["mapped"]:
            linux.move_mount(mapped.pop(0), target)
        else:
            linux.mount(source, target, flags=linux.MS_BIND | linux.MS_REC)
            linux.umount(source, linux.MNT_DETACH)
