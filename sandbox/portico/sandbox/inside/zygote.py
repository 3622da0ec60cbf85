"""The zygote: a warm Python that holds no secret and forks one namespaced process per sandbox.

It runs as process 1 of a pid namespace of its own, inside a user namespace in which no id is the host's
root. Every sandbox is a pid namespace below it, so the end of the zygote, however it comes, is the end of
them all; and it ends when the owner's socket closes or its parent dies. It stays single-threaded: that is
what makes a bare fork safe.
"""

import array
import gc
import importlib
import json
import os
import resource
import select
import signal
import socket
import struct
import sys
from typing import Any, Final

from . import agent, huge_pages, kernel, linux, paths, root, seccomp

_MESSAGE: Final = 128 << 10  # bytes of one request
_DESCRIPTORS: Final = 200  # of one request: a channel, the ways into control groups, and mounts
_NAMESPACES: Final = linux.CLONE_NEWNS | linux.CLONE_NEWNET | linux.CLONE_NEWIPC | linux.CLONE_NEWUTS
INSIDE_UID: Final = 1000
_RLIMITS: Final = {  # whatever is asked for
    resource.RLIMIT_NOFILE: 2_048,
    resource.RLIMIT_CORE: 0,
    resource.RLIMIT_MEMLOCK: 64 << 10,
    resource.RLIMIT_MSGQUEUE: 0,
    resource.RLIMIT_SIGPENDING: 1_024,
}
# The steps of locking up, as far as they are the same for every sandbox.
_ALONE: Final = (
    linux.step("setsid"),
    linux.step("unshare", _NAMESPACES | linux.CLONE_NEWCGROUP),
    linux.step("sethostname", b"sandbox", 7),
    *(linux.step("setrlimit", int(kind), struct.pack("QQ", most, most)) for kind, most in _RLIMITS.items()),
)
# The namespaces above belong to the zygote's user namespace. From the one inside it, whatever capability were
# won would say nothing about them.
_NOBODY: Final = (
    # /proc/self is root's until then, and so its maps.
    linux.step("prctl", linux.PR_SET_DUMPABLE, 1, 0, 0, 0),
    linux.step("unshare", linux.CLONE_NEWUSER),
)


def main(control: socket.socket, owner_pid: int) -> None:
    """The first process: leaves the host's namespaces, and stays as the one whose death ends the zygote."""
    linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
    template = json.loads(control.recv(_MESSAGE))
    if os.getppid() != owner_pid:
        return  # the owner died before the line above could notice
    uid, gid = os.getuid(), os.getgid()
    linux.unshare(linux.CLONE_NEWUSER)
    if template["mapped_by_owner"]:
        control.send(b"map")
        control.recv(1)
    else:
        write_maps(0, uid, gid)
    # Not that of control groups: who gives birth into a group has to see it, where namespaces delegate them.
    linux.unshare(_NAMESPACES | linux.CLONE_NEWPID)
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
    root.build(sources, template["mounts"])
    _Zygote(control, template).serve()


def write_maps(inside: int, uid: int, gid: int) -> None:
    """Maps one id into the user namespace this process has just made, as any user may."""
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{inside} {uid} 1"),
        ("gid_map", f"{inside} {gid} 1"),
    ):
        linux.write_file(f"/proc/self/{name}", text)


class _Zygote:
    def __init__(self, control: socket.socket, template: dict[str, Any]) -> None:
        self._control = control
        self._children: dict[int, int] = {}  # pidfd -> pid
        self._locks = [
            *linux.dropping_capabilities(),
            linux.step("prctl", linux.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
            linux.installing_filter(seccomp.program()),
            linux.step("prctl", linux.PR_SET_DUMPABLE, 0, 0, 0, 0),
            linux.step("chdir", b"/workspace"),
        ]
        self._mounts = template["mounts"]
        paths.roots += [entry["target"] for entry in self._mounts]
        sys.path[:] = [path for path in sys.path if os.path.exists(path)]
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        kernel.prepare(template["env"])
        for name in template["preload"]:
            self._preload(name)
        sys.dont_write_bytecode = True
        agent.rehearse()
        self._agent = agent.Agent()
        self._agent.kernel.env = self._agent.processes.env = template["env"]
        # Objects that exist now are never collected, so that a collection in a fork does not copy their
        # pages.
        gc.collect()
        gc.freeze()
        huge_pages.take_code()

    def _preload(self, name: str) -> None:
        try:
            importlib.import_module(name)
        except BaseException as error:
            # The caller's mistake, and not this machine's.
            self._control.send(f"preload: {name}: {type(error).__name__}".encode(errors="replace"))
            os._exit(1)

    def serve(self) -> None:
        os.dup2(0, 2)  # complaints of the start went to the owner; sandboxes have nothing to tell it this way
        self._control.send(b'{"ready":true}')
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        while True:
            for fd, _ in poll.poll():
                if fd in self._children:
                    poll.unregister(fd)
                    os.waitpid(self._children.pop(fd), 0)
                    os.close(fd)
                    continue
                message, fds, _, _ = socket.recv_fds(self._control, _MESSAGE, _DESCRIPTORS)
                if not message:
                    os._exit(0)  # the owner is gone, and with this process every sandbox
                request = json.loads(message)
                if fds:
                    pidfd = self._spawn(request, fds)
                    if pidfd is not None:
                        poll.register(pidfd, select.POLLIN)
                else:
                    self._make_namespace(request)

    def _spawn(self, request: dict[str, Any], fds: list[int]) -> int | None:
        """The descriptors: the channel, the ways into the control groups, mounts. None where the machine
        allows no more processes, or the group is gone."""
        birthplace = fds[1] if request["births"] else None
        pidfd = None
        try:
            pid, pidfd = linux.fork(linux.CLONE_NEWPID, birthplace)
            if pid == 0:
                self._become_sandbox(request, fds)
            self._children[pidfd] = pid
            self._answer(request, pidfd)
        except OSError as error:
            self._refuse(request, str(error))
        finally:
            for fd in fds:
                os.close(fd)
        return pidfd

    def _answer(self, request: dict[str, Any], fd: int) -> None:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))]
        self._control.sendmsg([str(request["id"]).encode()], rights)

    def _refuse(self, request: dict[str, Any], reason: str) -> None:
        self._control.sendmsg([f"{request['id']} {reason}".encode()])

    def _make_namespace(self, request: dict[str, Any]) -> None:
        """A user namespace that maps a user and group of files to a sandbox's. Where that is not allowed, the
        answer is without one."""
        told, telling = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                linux.unshare(linux.CLONE_NEWUSER)
                linux.prctl(linux.PR_SET_DUMPABLE, 1)  # or nobody could write its maps
                os.write(telling, b"k")
                signal.pause()
            finally:
                os._exit(1)
        os.close(telling)
        try:
            os.read(told, 1)
            for name in ("user", "group"):
                linux.write_file(f"/proc/{pid}/{name[0]}id_map", f"{request[name]} {request['uid']} 1")
            namespace = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
            self._answer(request, namespace)
            os.close(namespace)
        except OSError:
            self._refuse(request, "no user namespace can be made for a mount")
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            os.close(told)

    def _become_sandbox(self, request: dict[str, Any], fds: list[int]) -> None:
        """Locks the new process up, step by step, and hands it to the agent. Never returns."""
        channel, first = fds[0], 1 + request["births"]
        lists, mapped = fds[first : first + request["lists"]], fds[first + request["lists"] :]
        try:
            # Who enters alone need not wait until the kernel is sure of every other process.
            linux.follow(linux.step("write", fd, b"0", 1) for fd in lists)
            self._control.close()
            for fd in (*self._children, *fds[1:first], *lists):
                os.close(fd)
            uid = request["uid"]
            linux.follow(_ALONE)
            linux.follow(root.own(request["disk_bytes"], request["inodes"], uid))
            root.show(self._mounts, mapped)
            linux.loopback_up()
            linux.follow(
                linux.step("setrlimit", kind, struct.pack("QQ", most, most))
                for kind, most in request["rlimits"]
            )
            linux.follow((linux.step("setresgid", uid, uid, uid), linux.step("setresuid", uid, uid, uid)))
            linux.follow(_NOBODY)
            write_maps(INSIDE_UID, uid, uid)
            linux.follow(self._locks)
            agent.become(self._agent, socket.SocketType(fileno=channel), kernel_first=True)
        except BaseException as error:  # whatever it was, this process must not go on as a zygote
            agent.refuse(channel, error)
        finally:
            os._exit(1)
