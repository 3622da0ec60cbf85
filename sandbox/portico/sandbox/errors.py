"""What can go wrong in a sandbox, by name.

SandboxError
  SandboxNotFound                     no sandbox of that id, or not the caller's
  SandboxGone                         it was there and is no more; `cause` says why
  SandboxPaused                       it has to be resumed first
  KernelDied                          the Python process ended; the next cell has a new one
  LimitExceeded                       `limit` names which
  SandboxTimeout                      the call took longer than it may
  CallCancelled                       somebody ended the call
  InvalidRequest, InvalidPath, EditMismatch
  EntryNotFound, EntryExists          files
  ProcessNotFound, PortRefused, SnapshotNotFound
  Unsupported                         this backend or this machine cannot do it
  BackendUnavailable                  nothing here can run a sandbox as strict as asked
  OperationFailed                     the system inside refused
"""

import signal
from typing import ClassVar


class SandboxError(Exception):
    """Base class; `reason` is stable and in capitals, the message is for people."""

    reason: ClassVar[str] = "SANDBOX_ERROR"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class SandboxNotFound(SandboxError):
    reason = "SANDBOX_NOT_FOUND"


class SandboxGone(SandboxError):
    """`cause` is one of destroyed, expired, idle, killed, memory, owner, or protocol: it sent what no sandbox
    sends.
    """

    reason = "SANDBOX_GONE"

    def __init__(self, message: str, cause: str = "killed") -> None:
        super().__init__(message)
        self.cause = cause


class SandboxPaused(SandboxError):
    reason = "SANDBOX_PAUSED"


class KernelDied(SandboxError):
    """`exit_code` is negative for a signal, and `signal` is its name. Variables are lost, files are not."""

    reason = "KERNEL_DIED"

    def __init__(self, message: str, exit_code: int = 0) -> None:
        super().__init__(message)
        self.exit_code = exit_code

    @property
    def signal(self) -> str:
        """Such as SIGSEGV; empty when the kernel ended by itself."""
        try:
            return signal.Signals(-self.exit_code).name
        except ValueError:
            return f"signal {-self.exit_code}" if self.exit_code < 0 else ""


class LimitExceeded(SandboxError):
    """`limit` is one of memory, pids, disk, inodes, output, calls, sandboxes, preload. `kernel_lost` says if
    variables went.
    """

    reason = "LIMIT_EXCEEDED"

    def __init__(self, message: str, limit: str, kernel_lost: bool = False) -> None:
        super().__init__(message)
        self.limit = limit
        self.kernel_lost = kernel_lost


class SandboxTimeout(SandboxError):
    """`seconds` is what the call was given. `kernel_lost` says if it had to be killed."""

    reason = "TIMEOUT"

    def __init__(self, seconds: float, kernel_lost: bool = False) -> None:
        super().__init__(f"not done after {seconds:g} seconds" + (", and killed" if kernel_lost else ""))
        self.seconds = seconds
        self.kernel_lost = kernel_lost


class CallCancelled(SandboxError):
    reason = "CANCELLED"


class InvalidRequest(SandboxError):
    reason = "INVALID_REQUEST"


class InvalidPath(InvalidRequest):
    reason = "INVALID_PATH"


class EditMismatch(InvalidRequest):
    reason = "EDIT_MISMATCH"


class EntryNotFound(SandboxError):
    reason = "ENTRY_NOT_FOUND"


class EntryExists(SandboxError):
    reason = "ENTRY_EXISTS"


class ProcessNotFound(SandboxError):
    reason = "PROCESS_NOT_FOUND"


class PortRefused(SandboxError):
    reason = "PORT_REFUSED"


class SnapshotNotFound(SandboxError):
    reason = "SNAPSHOT_NOT_FOUND"


class Unsupported(SandboxError):
    reason = "UNSUPPORTED"


class BackendUnavailable(SandboxError):
    reason = "BACKEND_UNAVAILABLE"


class OperationFailed(SandboxError):
    reason = "OPERATION_FAILED"
