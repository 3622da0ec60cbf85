"""HTTP: runs as Server-Sent Events, compatible with AgentScope Runtime, and REST for the rest."""
