"""How a zygote comes to be: out of the host's namespaces, into a tree of its own, warm, and ready."""

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

# What one user id may have in the zygote's user namespace. Every sandbox has an id of its own, but those of a
# zygote without rights share one, and half of what that user may have by default is left to it.
_OF_A_SANDBOX: Final = {"max_inotify_instances": 16, "max_inotify_watches": 8_192}
_OF_ALL: Final = {"max_inotify_instances": 64, "max_inotify_watches": 32_768}


def main(control: socket.socket, owner_pid: int) -> None:
    """The first process: leaves the host's namespaces, and stays as the one whose death ends the zygote."""
    linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
    template = json.loads(control.recv(zygote.MESSAGE))
    template["env"] = packages.shown(template["env"])
    if os.getppid() != owner_pid:
        return  # the owner died before the line above could notice
    uid, gid = os.getuid(), os.getgid()
    if template["mapped_by_owner"]:
        # Who makes a user namespace is charged with the inotify instances and the like of all who live in it.
        # Files are still opened as this user.
        os.seteuid(template["uid_base"])
        linux.setfsuid(uid)
    linux.unshare(linux.CLONE_NEWUSER)
    if template["mapped_by_owner"]:
        control.send(b"map")
        control.recv(1)
    else:
        linux.follow(zygote.maps(0, uid, gid))
    # Not that of control groups: who gives birth into a group has to see it, where namespaces delegate them.
    linux.unshare(zygote.NAMESPACES | linux.CLONE_NEWPID)
    # Sources are opened while the caller's own rights still count; the tree is built without them.
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
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # it has a descriptor of each of its sandboxes
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
    holes.fill()  # every fork uses the objects that are made from here on
    served = zygote.Zygote(template)
    huge_pages.take_code()
    gc.collect()
    sys._clear_type_cache()  # or forks replace names in it that lie apart
    rehearsal.rehearse(served, template["env"])
    # Objects that exist now are never collected, so that a collection in a fork does not copy their pages.
    gc.collect()
    holes.fill()
    gc.freeze()
    huge_pages.take_data()
    os.dup2(0, 2)  # complaints of the start went to the owner; sandboxes have nothing to tell it this way
    control.send(b'{"ready":true}')
    served.open(control)
    served.networks.open()
    while True:
        served.turn()


_FOLDER = "/tmp"  # noqa: S108


def _preload(modules: list[str], data_bytes: int | None, control: socket.socket) -> None:
    """Imports them, with so much memory at most where no control group limits that. Some write caches while
    they are imported, which are gone afterwards: no sandbox sees them."""
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
