"""What AgentScope 1 streams, as the agent protocol."""

from collections.abc import Iterable, Mapping
from typing import Any

from portico.agent.context import Context
from portico.agent.frameworks.agentscope1.messages import to_agentscope1
from portico.agent.frameworks.base import OneWay
from portico.agent.frameworks.snapshots import Snapshots


class AgentRun(OneWay):
    """Translation of one run."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._snapshots = Snapshots()

    async def begin(self) -> Mapping[str, Any]:
        return {"msgs": to_agentscope1(self._context.request.input)}

    def say(self, item: Any) -> Iterable[object]:
        return self._snapshots.say(item)
