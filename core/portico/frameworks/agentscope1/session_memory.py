"""A memory of AgentScope 1 that is the run's session."""

from typing import Any

from agentscope.memory import InMemoryMemory


class SessionMemory(InMemoryMemory):
    """What was said in the session before, and what the agent adds meanwhile. The session keeps what is said
    by itself, so that none of it is part of the agent's own state."""

    def state_dict(self) -> dict[str, Any]:
        """What the agent has made of it: its summary of what is too long."""
        return {"_compressed_summary": self._compressed_summary}

    def load_state_dict(self, state_dict: dict[str, Any], strict: bool = True) -> None:
        self._compressed_summary = state_dict.get("_compressed_summary", "")
