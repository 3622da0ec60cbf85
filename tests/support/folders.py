"""Directories that every user of the machine can enter; pytest's own are private to one user."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def open_to_all() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="portico-test-", dir="/var/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)
