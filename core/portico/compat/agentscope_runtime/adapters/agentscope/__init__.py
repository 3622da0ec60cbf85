"""Adapters for AgentScope 1."""
