"""Agents that execute in the core's own process."""
