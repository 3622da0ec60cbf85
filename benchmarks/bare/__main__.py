"""`python -m benchmarks.bare PORT DIRECTORY`: runs both processes until SIGTERM."""

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
    # blocked only now, because child processes would inherit it
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    signal.sigwait(ends)
    for child in children:
        child.terminate()


if __name__ == "__main__":
    main(*sys.argv[1:])
