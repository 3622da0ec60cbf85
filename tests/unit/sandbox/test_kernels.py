"""The agent's side of a kernel."""

import os
import threading

import pytest

from portico.sandbox.inside.kernels import Kernels
from portico.sandbox.inside.loop import Loop


def test_no_kernel_is_forked_bare_beside_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """The child has the thread's claim on Python's lock and not the thread, and may never get the lock."""
    called: list[str] = []

    def fork(name: str) -> int:
        called.append(name)
        raise OSError

    kernels = Kernels(Loop(), lambda: None)
    kernels.fork = lambda: fork("bare")
    monkeypatch.setattr(os, "fork", lambda: fork("whole"))
    ended = threading.Event()
    thread = threading.Thread(target=ended.wait, args=[30])
    thread.start()
    try:
        with pytest.raises(OSError):
            kernels.ensure()
    finally:
        ended.set()
        thread.join()
    assert called == ["whole"]
