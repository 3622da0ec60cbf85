"""Adapters for AgentScope."""
