"""Stores the state of agents in memory."""

import copy
from abc import abstractmethod
from typing import Any

from portico.compat.agentscope_runtime.engine.services.base import InMemory, ServiceWithLifecycleManager

DEFAULT_SESSION = "default"


class StateService(ServiceWithLifecycleManager):
    """States by user, session and round."""

    @abstractmethod
    async def save_state(
        self, user_id: str, state: dict[str, Any], session_id: str | None = None, round_id: int | None = None
    ) -> int:
        """Saves a round, by default the next one; returns its number."""

    @abstractmethod
    async def export_state(
        self, user_id: str, session_id: str | None = None, round_id: int | None = None
    ) -> dict[str, Any] | None:
        """Returns a round, by default the latest; None when there is none."""


class InMemoryStateService(InMemory, StateService):
    """Keeps the state until the service stops. Portico's own `context.state` is durable."""

    def __init__(self) -> None:
        super().__init__()
        self._states: dict[tuple[str, str], dict[int, dict[str, Any]]] = {}

    def _forget(self) -> None:
        self._states.clear()

    async def save_state(
        self, user_id: str, state: dict[str, Any], session_id: str | None = None, round_id: int | None = None
    ) -> int:
        self._check()
        rounds = self._states.setdefault((user_id, session_id or DEFAULT_SESSION), {})
        number = max(rounds, default=0) + 1 if round_id is None else round_id
        rounds[number] = copy.deepcopy(state)
        return number

    async def export_state(
        self, user_id: str, session_id: str | None = None, round_id: int | None = None
    ) -> dict[str, Any] | None:
        self._check()
        rounds = self._states.get((user_id, session_id or DEFAULT_SESSION), {})
        number = max(rounds, default=0) if round_id is None else round_id
        return copy.deepcopy(rounds.get(number))
