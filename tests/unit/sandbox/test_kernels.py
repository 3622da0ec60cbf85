"""The supervisor's control of the kernel."""

import os
import threading

import pytest

from portico.sandbox.inside.kernels import Kernels
from portico.sandbox.inside.loop import Loop


def test_no_kernel_is_forked_bare_beside_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """If a thread holds Python's lock, the child inherits the locked state without the thread, and hangs."""
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
