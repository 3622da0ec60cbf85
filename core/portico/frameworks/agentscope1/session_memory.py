"""A memory of AgentScope 1 that reads the run's session."""

from typing import Any

from agentscope.memory import InMemoryMemory


class SessionMemory(InMemoryMemory):
    """Contains the session's earlier messages, and the messages that the agent adds during the run.

    The session stores the run's messages by itself, so the agent's own state contains none of them.
    """

    def state_dict(self) -> dict[str, Any]:
        """Returns the agent's own data: its summary of messages that are too long."""
        return {"_compressed_summary": self._compressed_summary}

    def load_state_dict(self, state_dict: dict[str, Any], strict: bool = True) -> None:
        self._compressed_summary = state_dict.get("_compressed_summary", "")
