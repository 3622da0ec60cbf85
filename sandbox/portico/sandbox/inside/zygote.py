"""The zygote: a process with loaded modules and without secrets, which forks one sandbox per request.

It runs as process 1 of its own pid namespace, in a user namespace in which no id is the host's root. Every
sandbox is a pid namespace below it, so all sandboxes end with the zygote, however it ends. It ends when the
owner's socket is closed or its parent dies. It stays single-threaded, which makes a bare fork safe.
"""

import _socket
import array
import os
import resource
import select
import signal
import socket
import struct
from collections.abc import Callable, Iterable
from typing import Any, Final

from . import agent, linux, networks, paths, rlimits, root, seccomp, wire

MESSAGE: Final = 128 << 10  # bytes of one request
_DESCRIPTORS: Final = 200  # of one request: a channel, descriptors of control groups, and mounts
NAMESPACES: Final = linux.CLONE_NEWNS | linux.CLONE_NEWNET | linux.CLONE_NEWIPC | linux.CLONE_NEWUTS
INSIDE_UID: Final = 1000
# The steps of `lock_up` that are the same for every sandbox.
_ALONE: Final = (
    linux.step("setsid"),
    linux.step("unshare", NAMESPACES & ~linux.CLONE_NEWNET | linux.CLONE_NEWCGROUP),
    linux.step("sethostname", b"sandbox", 7),
    *(
        linux.step("setrlimit", getattr(resource, name), struct.pack("QQ", most, most))
        for name, most in rlimits.ALWAYS.items()
    ),
)
# The namespaces above belong to the zygote's user namespace. A capability gained in the user namespace below
# gives no rights in them.
_NOBODY: Final = (
    # Until then /proc/self, with the id maps, belongs to root.
    linux.step("prctl", linux.PR_SET_DUMPABLE, 1, 0, 0, 0),
    linux.step("unshare", linux.CLONE_NEWUSER),
)


def maps(inside: int, uid: int, gid: int) -> tuple[linux.Step, ...]:
    """Returns steps that map one id into the user namespace that this process has just made, as any user
    may."""
    return (
        (linux.write_file, ("/proc/self/setgroups", "deny")),
        (linux.write_file, ("/proc/self/uid_map", f"{inside} {uid} 1")),
        (linux.write_file, ("/proc/self/gid_map", f"{inside} {gid} 1")),
    )


class Zygote:
    """Forks sandboxes of one template. Call `open`, and then `turn` forever."""

    fork: Callable[[], int] = os.fork  # for kernels
    _control: socket.socket
    _poll: select.poll

    def __init__(self, template: dict[str, Any]) -> None:
        self._children: dict[int, int] = {}  # pidfd -> pid
        self.networks = networks.Networks()
        self._locks = [
            *linux.dropping_capabilities(),
            linux.step("prctl", linux.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
            linux.step("prctl", linux.PR_SET_DUMPABLE, 0, 0, 0, 0),
            linux.step("chdir", b"/workspace"),
            linux.installing_filter(seccomp.program()),
        ]
        self._mounts = template["mounts"]
        paths.roots += [entry["target"] for entry in self._mounts]
        self._agent = agent.Agent()
        self._agent.kernel.env = self._agent.processes.env = template["env"]
        if not template["preload"]:  # a caller's modules may need their fork hooks
            self.fork = self._agent.kernel.fork = linux.fork_bare

    def open(self, control: socket.socket) -> None:
        """Serves the owner's requests from now on."""
        self._control = control
        self._poll = select.poll()
        self._poll.register(control, select.POLLIN)

    def turn(self) -> None:
        """Waits for requests and exits, and handles them; makes namespaces while idle."""
        ready = self._poll.poll(self.networks.patience())
        if not ready:
            self.networks.make()
        for fd, _ in ready:
            if fd in self._children:
                self._poll.unregister(fd)
                os.waitpid(self._children.pop(fd), 0)
                os.close(fd)
                continue
            message, fds, _, _ = socket.recv_fds(self._control, MESSAGE, _DESCRIPTORS)
            if not message:
                os._exit(0)  # the owner is gone; all sandboxes end with this process
            request = wire.parse_json(message)
            if fds:
                pidfd = self._spawn(request, fds)
                if pidfd is not None:
                    self._poll.register(pidfd, select.POLLIN)
            else:
                self._make_namespace(request)

    def _spawn(self, request: dict[str, Any], fds: list[int]) -> int | None:
        """Forks a sandbox and returns its pidfd; None if the machine allows no more processes, or the group
        is gone. `fds` are the channel, the descriptors of control groups, and mounts."""
        birthplace = fds[1] if request["births"] else None
        pidfd = None
        try:
            pid, pidfd = linux.fork(linux.CLONE_NEWPID, birthplace)
            if pid == 0:
                self._become_sandbox(request, fds)
            self._children[pidfd] = pid
            self.networks.used()
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
        """Makes a user namespace that maps the user and group of files to a sandbox's. If that is not
        allowed, it answers with an error."""
        told, telling = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                linux.unshare(linux.CLONE_NEWUSER)
                linux.prctl(linux.PR_SET_DUMPABLE, 1)  # otherwise its maps could not be written
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
        """Isolates the new process and runs the supervisor in it. Never returns."""
        try:
            listener = self.lock_up(request, fds, self._mounts, linux.follow)
            agent.become(self._agent, _socket.socket(fileno=fds[0]), listener, kernel_first=True)
        except BaseException as error:  # in any case this process must not go on as a zygote
            agent.refuse(fds[0], error)
        finally:
            os._exit(1)

    def lock_up(
        self,
        request: dict[str, Any],
        fds: list[int],
        mounts: list[dict[str, Any]],
        follow: Callable[[Iterable[linux.Step]], int],
    ) -> int:
        """Moves this process into its control groups, namespaces and file system, and drops its rights, in an
        order in which each step is still allowed. Returns the filter's listener."""
        first = 1 + request["births"]
        lists, mapped = fds[first : first + request["lists"]], fds[first + request["lists"] :]
        uid = request["uid"]
        for fd in lists:  # writing 0 moves only this process, so the kernel does not wait for others
            follow((linux.step("write", fd, b"0", 1),))
        follow(self.networks.entering())  # first, because some of these steps need its descriptor or a file
        for fd in (
            *self._children,
            *self.networks.descriptors(),
            *fds[1:first],
            *lists,
            self._control.fileno(),
        ):
            follow((linux.step("close", fd),))
        follow(_ALONE)
        follow(root.own(request["disk_bytes"], request["inodes"], uid))
        root.show(mounts, mapped)
        for kind, most in request["rlimits"]:
            follow((linux.step("setrlimit", kind, struct.pack("QQ", most, most)),))
        follow((linux.step("setresgid", uid, uid, uid), linux.step("setresuid", uid, uid, uid)))
        follow(_NOBODY)
        follow(maps(INSIDE_UID, uid, uid))
        return follow(self._locks)
