"""Starts a zygote: leaves the host's namespaces, builds the root file system, loads modules, and serves."""

import gc
import json
import os
import resource
import signal
import socket
import sys
from typing import Final

from . import (
    apart,
    calls,
    holes,
    hooks,
    huge_pages,
    kernel,
    linux,
    packages,
    preload,
    rehearsal,
    root,
    zygote,
)

# Limits of one user id in the zygote's user namespace. Every sandbox has its own id; but all sandboxes of a
# zygote without root's rights share one, and half of the default limit is left to that user's other programs.
_OF_A_SANDBOX: Final = {"max_inotify_instances": 16, "max_inotify_watches": 8_192}
_OF_ALL: Final = {"max_inotify_instances": 64, "max_inotify_watches": 32_768}


def main(control: socket.socket, owner_pid: int) -> None:
    """Leaves the host's namespaces. The first process then only waits; its death ends the zygote."""
    linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
    template = json.loads(control.recv(zygote.MESSAGE))
    template["env"] = packages.shown(template["env"])
    if os.getppid() != owner_pid:
        return  # the owner died before the death signal was set
    uid, gid = os.getuid(), os.getgid()
    if template["mapped_by_owner"]:
        # The creator of a user namespace is charged with the inotify instances and the like of all its users.
        # Files are still opened as the original user.
        os.seteuid(template["uid_base"])
        linux.setfsuid(uid)
    linux.unshare(linux.CLONE_NEWUSER)
    if template["mapped_by_owner"]:
        control.send(b"map")
        control.recv(1)
    else:
        linux.follow(zygote.maps(0, uid, gid))
    # Not a cgroup namespace: a process that forks into a group has to see it, where namespaces delegate
    # groups.
    linux.unshare(zygote.NAMESPACES | linux.CLONE_NEWPID)
    # Sources are opened while the caller's rights still apply; the tree is built without them.
    sources = root.open_sources(template)
    os.setgroups([]) if template["mapped_by_owner"] else None
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    child = os.fork()
    if child:
        control.close()
        os.waitpid(child, 0)
        return
    linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # it holds a descriptor per sandbox
    root.build(sources, template["mounts"])
    for name, most in (_OF_A_SANDBOX if template["mapped_by_owner"] else _OF_ALL).items():
        linux.write_file(f"/proc/sys/user/{name}", str(most))
    sys.path[:] = [path for path in sys.path if os.path.exists(path)]
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    kernel.prepare(template["env"])
    with hooks.OnlyWithThreads():
        apart.load(kernel.make_shell)
    if template["preload"]:
        _preload(template["preload"], template["data_bytes"], control)
    sys.dont_write_bytecode = True
    gc.collect()
    holes.fill()  # objects made from here on are used by every fork
    served = zygote.Zygote(template)
    huge_pages.take_code()
    gc.collect()
    sys._clear_type_cache()  # otherwise forks replace names in it that lie in separate memory
    rehearsal.rehearse(served, template["env"])
    # Objects that exist now are never collected, so that a collection in a fork does not copy their pages.
    gc.collect()
    holes.fill()
    gc.freeze()
    huge_pages.take_data()
    os.dup2(0, 2)  # errors of the start went to the owner; sandboxes must not write to it
    control.send(b'{"ready":true}')
    served.open(control)
    served.networks.open()
    while True:
        served.turn()


_FOLDER = "/tmp"  # noqa: S108


def _preload(modules: list[str], data_bytes: int | None, control: socket.socket) -> None:
    """Imports modules, with limited memory if no control group limits it. Caches that they write to /tmp
    during the import are removed, so that no sandbox sees them."""
    control.send(b"importing")
    usual = resource.getrlimit(resource.RLIMIT_DATA)
    if data_bytes is not None and usual[1] in (resource.RLIM_INFINITY, max(data_bytes, usual[1])):
        resource.setrlimit(resource.RLIMIT_DATA, (data_bytes, usual[1]))
    linux.mount("tmpfs", _FOLDER, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, "size=16m,nr_inodes=1k,mode=700")
    try:
        preload.load(modules)
    except calls.Failure as error:
        control.send(str(error).encode(errors="replace"))
        os._exit(1)
    linux.umount(_FOLDER, linux.MNT_DETACH)
    resource.setrlimit(resource.RLIMIT_DATA, usual)
    control.send(b"imported")
