"""Processes that a test has seen."""

from collections.abc import Iterable

import psutil


def none_alive(processes: Iterable[psutil.Process]) -> bool:
    """Whether all have ended; one that nobody has waited for yet has."""
    return not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in processes)
