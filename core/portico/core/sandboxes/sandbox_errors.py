"""Errors of sandboxes as errors of the core, with the codes and reasons of the contract.

PorticoError
  SandboxDomainError: SandboxNotFound, SandboxGone, SandboxPaused, SandboxUnsupported, SandboxUnavailable,
      SandboxOperationFailed, KernelDied, SandboxTimeout, CallCancelled, ProcessNotFound, ToolNotFound,
      FileNotFound, FileExists, InvalidPath, EditMismatch, PortRefused, SnapshotNotFound
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar, Final

from portico.core.errors import Code, DomainError, InvalidArgument, LimitExceeded
from portico.sandbox import errors, file_names

log = logging.getLogger(__name__)


class SandboxDomainError(DomainError):
    """Base class. `names` are the metadata that its callers get."""

    names: ClassVar[tuple[str, ...]] = ("sandbox_id",)


class SandboxNotFound(SandboxDomainError):
    code = Code.NOT_FOUND
    reason = "SANDBOX_NOT_FOUND"


class SandboxGone(SandboxDomainError):
    code = Code.FAILED_PRECONDITION
    reason = "SANDBOX_GONE"
    names = ("sandbox_id", "cause")


class SandboxPaused(SandboxDomainError):
    code = Code.FAILED_PRECONDITION
    reason = "SANDBOX_PAUSED"


class SandboxUnsupported(SandboxDomainError):
    code = Code.UNIMPLEMENTED
    reason = "SANDBOX_UNSUPPORTED"
    names = ()


class SandboxUnavailable(SandboxDomainError):
    code = Code.UNAVAILABLE
    reason = "SANDBOX_BACKEND_UNAVAILABLE"
    names = ()


class SandboxOperationFailed(SandboxDomainError):
    code = Code.FAILED_PRECONDITION
    reason = "SANDBOX_OPERATION_FAILED"
    names = ("path",)


class KernelDied(SandboxDomainError):
    code = Code.FAILED_PRECONDITION
    reason = "KERNEL_DIED"


class SandboxTimeout(SandboxDomainError):
    code = Code.FAILED_PRECONDITION
    reason = "SANDBOX_TIMEOUT"


class CallCancelled(SandboxDomainError):
    code = Code.ABORTED
    reason = "CALL_CANCELLED"


class ProcessNotFound(SandboxDomainError):
    code = Code.NOT_FOUND
    reason = "PROCESS_NOT_FOUND"
    names = ("pid",)


class ToolNotFound(SandboxDomainError):
    code = Code.NOT_FOUND
    reason = "TOOL_NOT_FOUND"
    names = ("name",)


class FileNotFound(SandboxDomainError):
    code = Code.NOT_FOUND
    reason = "FILE_NOT_FOUND"
    names = ("path",)


class FileExists(SandboxDomainError):
    code = Code.ALREADY_EXISTS
    reason = "FILE_EXISTS"
    names = ("path",)


class InvalidPath(SandboxDomainError):
    code = Code.INVALID_ARGUMENT
    reason = "INVALID_PATH"
    names = ("path",)


class EditMismatch(SandboxDomainError):
    code = Code.FAILED_PRECONDITION
    reason = "EDIT_MISMATCH"
    names = ("path",)


class PortRefused(SandboxDomainError):
    code = Code.UNAVAILABLE
    reason = "PORT_REFUSED"
    names = ("port",)


class SnapshotNotFound(SandboxDomainError):
    code = Code.NOT_FOUND
    reason = "SNAPSHOT_NOT_FOUND"
    names = ("name",)


_DOMAIN_ERRORS: Final[dict[type[errors.SandboxError], type[SandboxDomainError]]] = {
    errors.SandboxNotFound: SandboxNotFound,
    errors.SandboxGone: SandboxGone,
    errors.SandboxPaused: SandboxPaused,
    errors.Unsupported: SandboxUnsupported,
    errors.BackendUnavailable: SandboxUnavailable,
    errors.OperationFailed: SandboxOperationFailed,
    errors.KernelDied: KernelDied,
    errors.SandboxTimeout: SandboxTimeout,
    errors.CallCancelled: CallCancelled,
    errors.ProcessNotFound: ProcessNotFound,
    errors.EntryNotFound: FileNotFound,
    errors.EntryExists: FileExists,
    errors.InvalidPath: InvalidPath,
    errors.EditMismatch: EditMismatch,
    errors.PortRefused: PortRefused,
    errors.SnapshotNotFound: SnapshotNotFound,
}


def to_domain_error(error: errors.SandboxError, **about: object) -> DomainError:
    """The core's error for a sandbox's error.

    Args:
        error: The sandbox's error.
        about: Known values of the call, such as `sandbox_id`, for the metadata.
    """
    if isinstance(error, errors.LimitExceeded):
        return LimitExceeded(error.limit, error.message)
    kind = _DOMAIN_ERRORS.get(type(error))
    if kind is None:
        field, separator, problem = error.message.partition(": ")
        plain = separator and field.replace(".", "").replace("_", "").isalnum()
        return InvalidArgument(field, problem) if plain else InvalidArgument("sandbox", error.message)
    message = file_names.to_text(error.message)
    if kind is SandboxUnavailable:
        # The reason describes the machine: only the operator may see it.
        log.warning("a sandbox could not be created: %s", message)
        message = "no sandbox is available now; the core's log has the reason"
    if isinstance(error, errors.SandboxGone):
        about["cause"] = error.cause
    return kind(
        message, **{name: file_names.to_text(str(about[name])) for name in kind.names if name in about}
    )


@contextmanager
def translate_sandbox_errors(**about: object) -> Iterator[None]:
    """Convert errors of sandboxes raised within into errors of the core."""
    try:
        yield
    except errors.SandboxError as error:
        raise to_domain_error(error, **about) from error
