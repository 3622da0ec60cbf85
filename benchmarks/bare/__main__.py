"""`python -m benchmarks.bare PORT DIRECTORY`: both processes, until SIGTERM."""

import signal
import subprocess
import sys


def main(port: str, directory: str) -> None:
    socket = f"{directory}/core.sock"
    commands = [["core", socket, f"{directory}/frames.db"], ["gateway", port, socket]]
    children = [
        subprocess.Popen([sys.executable, "-m", f"benchmarks.bare.{name}", *more]) for name, *more in commands
    ]
    ends = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)  # now, since the children would have it too
    signal.sigwait(ends)
    for child in children:
        child.terminate()


if __name__ == "__main__":
    main(*sys.argv[1:])
