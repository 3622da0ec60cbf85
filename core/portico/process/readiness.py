"""Readiness: a process writes one byte to an inherited pipe when it serves."""

import argparse
import os
from contextlib import suppress


def add_option(parser: argparse.ArgumentParser) -> None:
    """Adds the option --ready-fd, hidden in the help: only a supervisor uses it."""
    parser.add_argument("--ready-fd", type=int, help=argparse.SUPPRESS)


def tell(ready_fd: int | None) -> None:
    """Reports readiness; does nothing without a supervisor, or if it has ended."""
    if ready_fd is None:
        return
    with suppress(OSError):
        os.write(ready_fd, b"\n")
    with suppress(OSError):
        os.close(ready_fd)
