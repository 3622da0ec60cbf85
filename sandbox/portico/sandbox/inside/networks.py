"""A stock of network namespaces. Making one takes the kernel longer than everything else of a sandbox, so the
zygote makes some while it is idle."""

import os
from typing import Final

from . import linux

_MOST: Final = 2  # namespaces in stock
_IDLE: Final = 3  # milliseconds without a request after which the zygote makes one
# Minimum, default and maximum of a TCP socket's receive buffer, in bytes. The kernel keeps as much of what
# the socket has sent with a timestamp, and no control group counts that; loopback needs no more.
_RECEIVE_BUFFER: Final = "4096 131072 131072"
_MAKING: Final = (
    linux.step("unshare", linux.CLONE_NEWNET),
    (linux.write_file, ("/proc/sys/net/ipv4/tcp_rmem", _RECEIVE_BUFFER)),
    (linux.loopback_up, ()),
)


class Networks:
    """Descriptors of unused namespaces. Each is for one sandbox."""

    def __init__(self) -> None:
        self.stock: list[int] = []
        self._home = -1  # the zygote's own namespace

    def open(self) -> None:
        """Allows making namespaces from now on."""
        self._home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    def patience(self) -> int | None:
        """Returns the idle milliseconds after which to make another; None if there are enough."""
        return _IDLE if self._home >= 0 and len(self.stock) < _MOST else None

    def make(self) -> None:
        """Makes a namespace. Where the machine allows no more, each sandbox makes its own, and reports
        errors."""
        home = self._home
        try:
            linux.follow(_MAKING)
            self.stock.append(os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC))
        except OSError:
            self._home = -1  # makes no more
        finally:
            linux.follow((linux.step("setns", home, linux.CLONE_NEWNET),))

    def descriptors(self) -> list[int]:
        """Returns the descriptors that a sandbox must close."""
        return [*self.stock, self._home] if self._home >= 0 else self.stock

    def entering(self) -> tuple[linux.Step, ...]:
        """Returns the steps by which a forked process enters a namespace."""
        return (linux.step("setns", self.stock[-1], linux.CLONE_NEWNET),) if self.stock else _MAKING

    def used(self) -> None:
        """Removes the last namespace, after a process that enters it was forked."""
        if self.stock:
            os.close(self.stock.pop())
