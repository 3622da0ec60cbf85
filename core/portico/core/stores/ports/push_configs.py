"""The store interface for push configs: where a run's events are pushed, and which are delivered already."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class PushRecord:
    """One push config of a run."""

    run_id: str
    config_id: str
    url: str
    token: str
    auth_scheme: str
    auth_credentials: str
    delivered: int  # sequence number of the last delivered event; -1 before the first
    ended: bool
    created_at: float
    revision: str  # new each time the config is set
    protocol: str  # the receiver's protocol; empty for the deliverer's default


class PushStore(Protocol):
    """Store of push configs by run. Every method may raise StoreUnavailable."""

    async def set(self, record: PushRecord) -> None:
        """Create the config, or replace that of the same run and id."""
        ...

    async def get(self, run_id: str, config_id: str) -> PushRecord:
        """Return a config. Raises PushConfigNotFound."""
        ...

    async def list(self, run_id: str, after: str, limit: int) -> Sequence[PushRecord]:
        """List a run's configs by config_id, strictly after `after`."""
        ...

    async def all(self, after: tuple[str, str] | None, limit: int) -> Sequence[PushRecord]:
        """List the configs of all runs by (run_id, config_id), strictly after `after`."""
        ...

    async def undelivered(self) -> Sequence[PushRecord]:
        """Return all configs whose delivery has not ended, oldest first."""
        ...

    async def delete(self, run_id: str, config_id: str) -> bool:
        """Delete a config; return whether it existed."""
        ...

    async def delete_all(self, run_ids: Sequence[str]) -> int:
        """Delete all configs of several runs; return how many."""
        ...

    async def acknowledge(
        self, run_id: str, config_id: str, revision: str, delivered: int, ended: bool
    ) -> bool:
        """Record the delivered events, which never decrease; return whether this revision is still set."""
        ...
