"""Translates the stream of AgentScope 1 to the agent protocol, and saves its state in the session."""

from collections.abc import Iterable, Mapping
from typing import Any

from portico.agent.adapter_interface import OneWayTranslation
from portico.agent.context import Context
from portico.frameworks.agentscope1.messages import to_agentscope1
from portico.frameworks.agentscope1.session_memory import SessionMemory
from portico.frameworks.common.cumulative_messages import Snapshots
from portico.frameworks.common.history import earlier_messages


class AgentRun(OneWayTranslation):
    """The translation of one run."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._kept = context.state.part("agentscope1")
        self._state: dict[str, Any] = {}
        self._snapshots = Snapshots()

    async def begin(self) -> Mapping[str, Any]:
        saved = await self._kept.load()
        self._state = dict(saved.state) if saved else {}
        memory = SessionMemory()
        await memory.add(to_agentscope1(await earlier_messages(self._context)))
        return {"msgs": to_agentscope1(self._context.request.input), "memory": memory, "state": self._state}

    def say(self, item: Any) -> Iterable[object]:
        return self._snapshots.say(item)

    async def end(self) -> None:
        if self._state:
            await self._kept.save(self._state, round_id=1)
