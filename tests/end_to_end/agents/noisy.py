"""An agent that writes to standard error in every way that bypasses the log."""

import logging
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import AsyncIterator

from portico.agent import AgentApp

app = AgentApp("noisy")


def make_noise() -> None:
    print("printed", file=sys.stderr)
    os.write(2, b"written to the descriptor\nand a line more, \xff\n")
    subprocess.run(["/bin/sh", "-c", "echo said by a child >&2"], check=True)
    warnings.warn("warned\nin two lines", stacklevel=2)
    logging.getLogger("noisy").error("%d", "no number")
    thread = threading.Thread(target=lambda: int("no number"))
    thread.start()
    thread.join()
    sys.stderr.write("{no JSON}\n")


make_noise()


@app.query
async def query(msgs: list[object]) -> AsyncIterator[str]:
    make_noise()
    yield "done"
