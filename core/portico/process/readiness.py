"""How a process tells its supervisor that it serves: a byte on a pipe that was handed down."""

import argparse
import os
from contextlib import suppress


def add_option(parser: argparse.ArgumentParser) -> None:
    """For the supervisor, not for people: the option is not in the help."""
    parser.add_argument("--ready-fd", type=int, help=argparse.SUPPRESS)


def tell(ready_fd: int | None) -> None:
    """Without a supervisor there is nobody to tell; one that has gone is told nothing."""
    if ready_fd is None:
        return
    with suppress(OSError):
        os.write(ready_fd, b"\n")
    with suppress(OSError):
        os.close(ready_fd)
