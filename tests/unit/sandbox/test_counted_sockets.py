"""Effects on code inside when the system call filter asks process 1."""

import fcntl
import socket
import subprocess
import sys
import time

from portico.sandbox.inside import sockets

_CODE = """
import signal, socket, sys
from portico.sandbox.inside import linux, seccomp
linux.prctl(linux.PR_SET_NO_NEW_PRIVS, 1)
way, to = socket.socket(fileno=int(sys.argv[1])), socket.socket()
listener = linux.follow([linux.installing_filter(seccomp.program())])
socket.send_fds(way, [b"x"], [listener])
signal.signal(signal.SIGALRM, lambda *_: None)
signal.setitimer(signal.ITIMER_REAL, 0.2)
to.connect(("127.0.0.1", int(sys.argv[2])))
print(to.getpeername()[1])
"""


def test_a_signal_does_not_end_a_connect_that_waits_for_its_answer() -> None:
    """Python regards EINTR as a connection in progress, and then an unconnected socket as connected."""
    ours, theirs = socket.socketpair()
    with ours, theirs, socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        started = subprocess.Popen(
            [sys.executable, "-c", _CODE, str(theirs.fileno()), str(port)],
            pass_fds=[theirs.fileno()],
            stdout=subprocess.PIPE,
        )
        with started:
            ours.settimeout(30)
            _, (listener,), _, _ = socket.recv_fds(ours, 1, 1)
            question = bytearray(sockets._QUESTION.size)
            fcntl.ioctl(listener, sockets._RECEIVE, question)
            time.sleep(0.5)  # the signal arrives
            answer = sockets._ANSWER.pack(sockets._QUESTION.unpack(question)[0], 0, 0, sockets._CONTINUE)
            fcntl.ioctl(listener, sockets._SEND, answer)
            assert started.communicate(timeout=30)[0] == b"%d\n" % port
