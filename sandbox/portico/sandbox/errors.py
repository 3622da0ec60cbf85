"""Exceptions of sandboxes.

SandboxError
  SandboxNotFound                     no sandbox with that id, or it belongs to another user
  SandboxGone                         the sandbox has ended; `cause` says why
  SandboxPaused                       the sandbox must be resumed first
  KernelDied                          the Python process ended; the next cell starts a new one
  LimitExceeded                       a limit was reached; `limit` names it
  SandboxTimeout                      the call exceeded its timeout
  CallCancelled                       the call was cancelled
  InvalidRequest, InvalidPath, EditMismatch
  EntryNotFound, EntryExists          files
  ProcessNotFound, PortRefused, SnapshotNotFound
  Unsupported                         the backend or the machine does not support the request
  BackendUnavailable                  no sandbox with the required isolation can be made here
  OperationFailed                     the operating system inside the sandbox refused
"""

import signal
from typing import ClassVar


class SandboxError(Exception):
    """Base class. `reason` is a stable code in capitals, `message` is for people."""

    reason: ClassVar[str] = "SANDBOX_ERROR"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class SandboxNotFound(SandboxError):
    """No sandbox has that id, or it belongs to another user."""

    reason = "SANDBOX_NOT_FOUND"


class SandboxGone(SandboxError):
    """`cause` is one of destroyed, expired, idle, killed, memory, owner, or protocol (the sandbox violated
    the supervisor's protocol).
    """

    reason = "SANDBOX_GONE"

    def __init__(self, message: str, cause: str = "killed") -> None:
        super().__init__(message)
        self.cause = cause


class SandboxPaused(SandboxError):
    """The sandbox is paused; resume it first."""

    reason = "SANDBOX_PAUSED"


class KernelDied(SandboxError):
    """`exit_code` is negative for a signal; `signal` is the signal's name. Variables are lost, files stay."""

    reason = "KERNEL_DIED"

    def __init__(self, message: str, exit_code: int = 0) -> None:
        super().__init__(message)
        self.exit_code = exit_code

    @property
    def signal(self) -> str:
        """The signal's name, such as SIGSEGV; empty when the kernel exited without a signal."""
        try:
            return signal.Signals(-self.exit_code).name
        except ValueError:
            return f"signal {-self.exit_code}" if self.exit_code < 0 else ""


class LimitExceeded(SandboxError):
    """`limit` is one of memory, pids, disk, inodes, output, calls, sandboxes, preload. `kernel_lost` says
    whether the kernel, with its variables, was lost.
    """

    reason = "LIMIT_EXCEEDED"

    def __init__(self, message: str, limit: str, kernel_lost: bool = False) -> None:
        super().__init__(message)
        self.limit = limit
        self.kernel_lost = kernel_lost


class SandboxTimeout(SandboxError):
    """`seconds` is the timeout of the call. `kernel_lost` says whether the kernel had to be killed."""

    reason = "TIMEOUT"

    def __init__(self, seconds: float, kernel_lost: bool = False) -> None:
        super().__init__(f"not done after {seconds:g} seconds" + (", and killed" if kernel_lost else ""))
        self.seconds = seconds
        self.kernel_lost = kernel_lost


class CallCancelled(SandboxError):
    """The call was cancelled."""

    reason = "CANCELLED"


class InvalidRequest(SandboxError):
    """An argument is invalid; the message names it."""

    reason = "INVALID_REQUEST"


class InvalidPath(InvalidRequest):
    """A path leads outside the sandbox's directories, or is of the wrong kind."""

    reason = "INVALID_PATH"


class EditMismatch(InvalidRequest):
    """The text to be replaced does not occur in the file."""

    reason = "EDIT_MISMATCH"


class EntryNotFound(SandboxError):
    """The file or directory does not exist."""

    reason = "ENTRY_NOT_FOUND"


class EntryExists(SandboxError):
    """The file or directory exists already."""

    reason = "ENTRY_EXISTS"


class ProcessNotFound(SandboxError):
    """The sandbox has no process with that number."""

    reason = "PROCESS_NOT_FOUND"


class PortRefused(SandboxError):
    """No process listens on the port, or the connection was reset."""

    reason = "PORT_REFUSED"


class SnapshotNotFound(SandboxError):
    """No snapshot or checkpoint has that id, or it belongs to another user."""

    reason = "SNAPSHOT_NOT_FOUND"


class Unsupported(SandboxError):
    """The backend or the machine does not support the request."""

    reason = "UNSUPPORTED"


class BackendUnavailable(SandboxError):
    """No sandbox with the required isolation can be created; the message says why."""

    reason = "BACKEND_UNAVAILABLE"


class OperationFailed(SandboxError):
    """The operating system inside the sandbox refused the operation."""

    reason = "OPERATION_FAILED"
