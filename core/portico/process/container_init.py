"""Process 1 of a container: forwards signals and reaps children; its only child does the work.

The kernel drops signals that process 1 has no handler for, and makes it the parent of orphaned processes.
"""

import os
import signal

_FAULTS = {
    "SIGABRT",
    "SIGBUS",
    "SIGFPE",
    "SIGILL",
    "SIGSEGV",
    "SIGSYS",
    "SIGTRAP",
}  # raised by faults of this process itself: not forwarded
_NOT_PASSED_ON = _FAULTS | {"SIGKILL", "SIGSTOP", "SIGCHLD", "SIGTTIN", "SIGTTOU"}


def fork_from_process_one() -> None:
    """In process 1, forks and returns in the child only; call it before any thread starts. Elsewhere, does
    nothing."""
    if os.getpid() != 1:
        return
    passed_on = {one for one in signal.Signals if one.name not in _NOT_PASSED_ON}
    awaited = {*passed_on, signal.SIGCHLD}
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # while it is ignored there are no exit statuses
    before = signal.pthread_sigmask(signal.SIG_BLOCK, awaited)
    child = os.fork()
    if child == 0:
        _lead_terminal()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return
    while True:
        number = signal.sigwait(awaited)
        if number == signal.SIGCHLD:
            _reap(child)
        else:
            os.kill(child, number)  # also succeeds for a zombie


def _lead_terminal() -> None:
    """Makes the child a separate process group, so that Ctrl-C reaches it once: from the terminal."""
    os.setpgid(0, 0)
    try:
        usual = signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        os.tcsetpgrp(0, os.getpid())
        signal.signal(signal.SIGTTOU, usual)
    except OSError:
        pass  # there is no terminal


def _reap(child: int) -> None:
    """Reaps ended processes; ends with the child's exit status when the child has ended."""
    while True:
        try:
            ended, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if ended == 0:
            return
        if ended == child:
            code = os.waitstatus_to_exitcode(status)
            os._exit(code if code >= 0 else 128 - code)
