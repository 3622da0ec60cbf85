"""Network namespaces. The kernel takes longer to make one than for everything else that a sandbox has of its
own, so the zygote makes some while it has nothing else to do."""

import os
from typing import Final

from . import linux

_MOST: Final = 2  # namespaces in stock
_IDLE: Final = 3  # milliseconds without a request, after which the zygote makes one
# The least, initial and largest of a TCP socket, in bytes. The kernel keeps so much of what the socket has
# sent with a timestamp, and no control group counts that; loopback needs no more.
_RECEIVE_BUFFER: Final = "4096 131072 131072"
_MAKING: Final = (
    linux.step("unshare", linux.CLONE_NEWNET),
    (linux.write_file, ("/proc/sys/net/ipv4/tcp_rmem", _RECEIVE_BUFFER)),
    (linux.loopback_up, ()),
)


class Networks:
    """Descriptors of namespaces that nothing has used yet. Each goes to one sandbox."""

    def __init__(self) -> None:
        self.stock: list[int] = []
        self._home = -1  # the zygote's own

    def open(self) -> None:
        """From here on it may make some."""
        self._home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    def patience(self) -> int | None:
        """Milliseconds after which another may be made, None if there are enough."""
        return _IDLE if self._home >= 0 and len(self.stock) < _MOST else None

    def make(self) -> None:
        """Makes one. Where the machine allows no more, a sandbox makes its own, and says what is wrong."""
        home = self._home
        try:
            linux.follow(_MAKING)
            self.stock.append(os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC))
        except OSError:
            self._home = -1  # no more of them
        finally:
            linux.follow((linux.step("setns", home, linux.CLONE_NEWNET),))

    def descriptors(self) -> list[int]:
        """Those that no sandbox may keep."""
        return [*self.stock, self._home] if self._home >= 0 else self.stock

    def entering(self) -> tuple[linux.Step, ...]:
        """What takes a process just forked into a namespace of its own."""
        return (linux.step("setns", self.stock[-1], linux.CLONE_NEWNET),) if self.stock else _MAKING

    def used(self) -> None:
        """A process has been forked that enters the last one."""
        if self.stock:
            os.close(self.stock.pop())
