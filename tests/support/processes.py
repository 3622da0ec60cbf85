"""Checks processes of a test."""

from collections.abc import Iterable

import psutil


def none_alive(processes: Iterable[psutil.Process]) -> bool:
    """Returns whether all have ended; a process that was not waited for counts as ended."""
    return not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in processes)
