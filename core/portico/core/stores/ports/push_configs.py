"""Where the events of runs are pushed, and how far that has come: what the core asks of a store."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class PushRecord:
    """One config of a run."""

    run_id: str
    config_id: str
    url: str
    token: str
    auth_scheme: str
    auth_credentials: str
    delivered: int  # the number of the last event that was; -1 before the first
    ended: bool
    created_at: float
    revision: str  # differs each time that it is set
    protocol: str  # what the receiver understands; empty for the deliverer's own


class PushStore(Protocol):
    """Push configs by run. Every method raises StoreUnavailable as the other stores do."""

    async def set(self, record: PushRecord) -> None:
        """Write it over one of the same run and id."""
        ...

    async def get(self, run_id: str, config_id: str) -> PushRecord:
        """Raises PushConfigNotFound."""
        ...

    async def list(self, run_id: str, after: str, limit: int) -> Sequence[PushRecord]:
        """By id, strictly after the given one."""
        ...

    async def all(self, after: tuple[str, str] | None, limit: int) -> Sequence[PushRecord]:
        """Of all runs, by (run_id, config_id), strictly after the given pair."""
        ...

    async def undelivered(self) -> Sequence[PushRecord]:
        """Those of all runs that have not ended, oldest first."""
        ...

    async def delete(self, run_id: str, config_id: str) -> bool:
        """Whether there was one."""
        ...

    async def delete_all(self, run_ids: Sequence[str]) -> int:
        """All of those runs; how many there were."""
        ...

    async def acknowledge(
        self, run_id: str, config_id: str, revision: str, delivered: int, ended: bool
    ) -> bool:
        """Note how far it has come; never back. Whether that revision is there."""
        ...
