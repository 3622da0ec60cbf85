"""Repairs inherited process state: closed standard streams, blocked signals, an unusable umask."""

import os
import signal
import sys

OPEN_FILES = 1024  # the usual soft limit; a higher one breaks programs that use select()
LOOPBACK = ("localhost", "127.0.0.1", "::1")
_OWN_RIGHTS = 0o700


def repair_inherited_state() -> None:
    """Repairs the process's state; call it before anything opens a file."""
    if sys.platform == "win32":
        return
    _open_standard_streams()
    # With SIGCHLD ignored there are no exit statuses; with SIGTERM blocked the process can't be stopped.
    if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    mask = os.umask(0o077)
    os.umask(mask & ~_OWN_RIGHTS)  # the process must be able to read the files that it creates
    _allow_open_files()
    _reach_loopback_directly()


def open_files() -> int:
    """The number of files and connections that this process may have open."""
    if sys.platform == "win32":
        return sys.maxsize
    import resource

    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft


def _open_standard_streams() -> None:
    """Opens closed standard streams: otherwise the next opened file gets their number, and output goes to
    it."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)
    if sys.stdin is None:
        sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", encoding="utf-8", closefd=False)


def _reach_loopback_directly() -> None:
    """Excludes loopback addresses from proxies: gRPC and most libraries would use a configured proxy, which
    can't reach this machine's loopback."""
    if not any(name.lower().endswith("_proxy") for name in os.environ):
        return
    usual = os.environ.get("no_proxy", os.environ.get("NO_PROXY", ""))
    for name in ("no_proxy", "NO_PROXY", *(("no_grpc_proxy",) if "no_grpc_proxy" in os.environ else ())):
        hosts = [host.strip() for host in os.environ.get(name, usual).split(",")]
        if "*" not in hosts:
            os.environ[name] = ",".join(dict.fromkeys([*filter(None, hosts), *LOOPBACK]))


def _allow_open_files() -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
