"""Fair scheduler: limits of executing and queued runs for the core, each tenant and each user.

Tenants take turns, and within a tenant its users do: a user with ten thousand queued runs delays the first
run of another user by one run. Without limits every run begins at once.
"""

from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from portico.core.errors import LimitExceeded
from portico.model.identity import tenant_of

RETRY_SECONDS = 5.0  # retry delay for a caller with too many queued runs


@dataclass(frozen=True, slots=True)
class RunLimits:
    """Limits of executing and queued runs; None for no limit."""

    running: int | None = None
    running_per_tenant: int | None = None
    running_per_user: int | None = None
    queued_per_tenant: int | None = None
    queued_per_user: int | None = None


class Schedulable(Protocol):
    """A run that the scheduler places."""

    @property
    def owner(self) -> str: ...


T = TypeVar("T", bound=Schedulable)


class FairScheduler(Generic[T]):
    """The accepted root runs, executing or queued. Owned by the engine. Paused runs count as executing."""

    def __init__(self, limits: RunLimits, begin: Callable[[T], None]) -> None:
        self._limits = limits
        self._begin = begin
        self._by_user = limits.running_per_user is not None or limits.queued_per_user is not None
        self._by_tenant = limits.running_per_tenant is not None or limits.queued_per_tenant is not None
        # By owner and by `_tenant_key`, as far as there are limits for them.
        self._accepted: Counter[str] = Counter()
        self._running: Counter[str] = Counter()
        self._executing: set[int] = set()
        # By tenant, then by owner; the one served moves to the end.
        self._queues: OrderedDict[str, OrderedDict[str, deque[T]]] = OrderedDict()

    def check_queue_limit(self, owner: str, *, behind: bool = False) -> None:
        """Raise LimitExceeded if the owner may not queue another run.

        Args:
            owner: The user, with its tenant.
            behind: The run would queue behind another run of its session.
        """
        limits = self._limits
        if limits.queued_per_tenant is not None:
            self._check(owner, _tenant_key(owner), "tenant", limits.queued_per_tenant, behind)
        if limits.queued_per_user is not None:
            self._check(owner, owner, "user", limits.queued_per_user, behind)

    def _check(self, owner: str, key: str, whose: str, limit: int, behind: bool) -> None:
        queued = self._accepted[key] - self._running[key]
        if queued >= limit and (behind or not self._free(owner)):
            problem = f"the {whose} has {queued} runs queued; try again when some have ended"
            raise LimitExceeded(f"{whose}_queued_runs", problem, retry_after=RETRY_SECONDS)

    def register(self, owner: str) -> None:
        """Count one more accepted run, for which `ask` follows."""
        for key in self._keys(owner):
            self._accepted[key] += 1

    def start_or_queue(self, run: T) -> bool:
        """Begin the run now if there is a free place, else queue it. Returns whether it began."""
        owner = run.owner
        if self._free(owner) and not self._is_queued(owner):
            self._start(run)
            return True
        queue = self._queues.setdefault(tenant_of(owner), OrderedDict())
        queue.setdefault(owner, deque()).append(run)
        return False

    def _is_queued(self, owner: str) -> bool:
        """Whether a run of the owner is queued."""
        return bool(self._queues) and owner in self._queues.get(tenant_of(owner), ())

    def register_running(self, run: T) -> None:
        """Count a recovered, paused run as executing, as in the earlier process."""
        self._count(run)

    def release(self, run: T) -> None:
        """Remove a run that has ended or is no longer queued, and begin the next ones."""
        keys = self._keys(run.owner)
        for key in keys:
            _decrement(self._accepted, key)
        if id(run) in self._executing:
            self._executing.discard(id(run))
            for key in keys:
                _decrement(self._running, key)
            if self._queues:
                self._next()
        else:
            self._forget(run)

    def _keys(self, owner: str) -> Sequence[str]:
        """The keys under which the owner's runs are counted."""
        if self._by_tenant:
            tenant = _tenant_key(owner)
            return (owner, tenant) if self._by_user else (tenant,)
        return (owner,) if self._by_user else ()

    def _free(self, owner: str) -> bool:
        limits = self._limits
        return (
            (limits.running is None or len(self._executing) < limits.running)
            and (
                limits.running_per_tenant is None
                or self._running[_tenant_key(owner)] < limits.running_per_tenant
            )
            and (limits.running_per_user is None or self._running[owner] < limits.running_per_user)
        )

    def _start(self, run: T) -> None:
        self._count(run)
        self._begin(run)

    def _count(self, run: T) -> None:
        self._executing.add(id(run))
        for key in self._keys(run.owner):
            self._running[key] += 1

    def _next(self) -> None:
        """Begin queued runs while there are free places, one per tenant in turn."""
        found = True
        while found:
            found = False
            for tenant, owners in list(self._queues.items()):
                owner = next((owner for owner in owners if self._free(owner)), None)
                if owner is None:
                    continue
                run = owners[owner].popleft()
                owners.move_to_end(owner)
                self._queues.move_to_end(tenant)
                self._tidy(tenant, owner)
                self._start(run)
                found = True

    def _forget(self, run: T) -> None:
        tenant = tenant_of(run.owner)
        owners = self._queues.get(tenant)
        queue = None if owners is None else owners.get(run.owner)
        if queue is not None and run in queue:
            queue.remove(run)
            self._tidy(tenant, run.owner)

    def _tidy(self, tenant: str, owner: str) -> None:
        owners = self._queues[tenant]
        if not owners[owner]:
            del owners[owner]
        if not owners:
            del self._queues[tenant]


def _tenant_key(owner: str) -> str:
    return f"\0{tenant_of(owner)}"  # no owner begins with a NUL


def _decrement(counter: Counter[str], key: str) -> None:
    counter[key] -= 1
    if not counter[key]:
        del counter[key]
