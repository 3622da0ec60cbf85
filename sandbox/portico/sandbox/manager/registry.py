"""The registry of sandboxes: live ones with their owners, and the causes of those that have ended."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from portico.sandbox import errors
from portico.sandbox.handle.sandbox_handle import SandboxHandle
from portico.sandbox.manager.quotas import SandboxQuotas

_MAX_REMEMBERED: Final = 10_000  # ended sandboxes


def any_user(user_id: str) -> bool:
    """A `visible` function that allows the sandboxes of every user."""
    return True


@dataclass(frozen=True, slots=True)
class ManagedSandbox:
    """A sandbox handle with its backend, user and session."""

    handle: SandboxHandle
    backend: str
    user_id: str
    session_id: str
    created: float  # Unix seconds


@dataclass(frozen=True, slots=True)
class _Ended:
    user_id: str
    message: str
    cause: str


class SandboxRegistry:
    """Live sandboxes by id. Each counts in the quotas until it has ended."""

    def __init__(self, quotas: SandboxQuotas) -> None:
        self._quotas = quotas
        self._held: dict[str, ManagedSandbox] = {}
        self._ended: dict[str, _Ended] = {}

    @property
    def count(self) -> int:
        """Number of sandboxes, including those that are not yet known to have ended."""
        return len(self._held)

    def reserve(self, user_id: str) -> None:
        """Counts a sandbox that is about to be created. Raises LimitExceeded."""
        try:
            self._quotas.acquire("sandboxes", user_id)
        except errors.LimitExceeded:
            self.remove_dead()
            self._quotas.acquire("sandboxes", user_id)

    def cancel(self, user_id: str) -> None:
        """Removes one sandbox from the count: it could not be created, or it has ended."""
        self._quotas.release("sandboxes", user_id)

    def add(self, held: ManagedSandbox) -> None:
        """Adds a sandbox for which `reserve` was called."""
        self._held[held.handle.id] = held

    def remove(self, held: ManagedSandbox, gone: errors.SandboxGone) -> bool:
        """Removes a sandbox that is ending; the caller then calls `cancel`. False if it was removed
        before."""
        if self._held.pop(held.handle.id, None) is None:
            return False
        self._ended[held.handle.id] = _Ended(held.user_id, gone.message, gone.cause)
        while len(self._ended) > _MAX_REMEMBERED:
            del self._ended[next(iter(self._ended))]
        return True

    def remove_dead(self) -> None:
        """Removes sandboxes that have ended by themselves."""
        for held in list(self._held.values()):
            self._living(held)

    def _living(self, held: ManagedSandbox) -> bool:
        if held.handle.gone is None:
            return True
        if self.remove(held, held.handle.gone):
            self.cancel(held.user_id)
        return False

    def get(self, sandbox_id: str, visible: Callable[[str], bool] = any_user) -> ManagedSandbox:
        """Returns a sandbox. Raises SandboxNotFound, also for a user that is not visible, and SandboxGone
        with the cause."""
        held = self._held.get(sandbox_id)
        if held is not None and self._living(held) and visible(held.user_id):
            return held
        ended = self._ended.get(sandbox_id)
        if ended is not None and visible(ended.user_id):
            raise errors.SandboxGone(ended.message, ended.cause)
        raise errors.SandboxNotFound(f"no sandbox {sandbox_id!r}")

    def listed(self, user_id: str | None = None, session_id: str | None = None) -> list[ManagedSandbox]:
        """Returns live sandboxes, newest first, of one user and session; None means all."""
        found = [
            held
            for held in self._held.values()
            if held.handle.gone is None
            and user_id in (None, held.user_id)
            and session_id in (None, held.session_id)
        ]
        return sorted(found, key=lambda held: (held.created, held.handle.id), reverse=True)

    def forget(self, user_id: str) -> None:
        """Removes the records of a user's ended sandboxes."""
        for sandbox_id in [name for name, ended in self._ended.items() if ended.user_id == user_id]:
            del self._ended[sandbox_id]
