"""Ids that begin with the time, so that new rows are adjacent in a database's indexes."""

import os
import time


def new_id(prefix: str) -> str:
    """Return the prefix and 32 hexadecimal digits: 12 of the time in milliseconds, 20 (80 bits) random."""
    return f"{prefix}{time.time_ns() // 1_000_000:012x}{os.urandom(10).hex()}"
