"""What AgentScope 1 streams, as the agent protocol; its memory and state, as the session's."""

from collections.abc import Iterable, Mapping
from typing import Any

from portico.agent.context import Context
from portico.agent.frameworks.agentscope1.memory import SessionMemory
from portico.agent.frameworks.agentscope1.messages import to_agentscope1
from portico.agent.frameworks.base import OneWay
from portico.agent.frameworks.history import earlier
from portico.agent.frameworks.snapshots import Snapshots


class AgentRun(OneWay):
    """Translation of one run."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._kept = context.state.part("agentscope1")
        self._state: dict[str, Any] = {}
        self._snapshots = Snapshots()

    async def begin(self) -> Mapping[str, Any]:
        saved = await self._kept.load()
        self._state = dict(saved.state) if saved else {}
        memory = SessionMemory()
        await memory.add(to_agentscope1(await earlier(self._context)))
        return {"msgs": to_agentscope1(self._context.request.input), "memory": memory, "state": self._state}

    def say(self, item: Any) -> Iterable[object]:
        return self._snapshots.say(item)

    async def end(self) -> None:
        if self._state:
            await self._kept.save(self._state, round_id=1)
