"""Runs of all agents: admission, scheduling, session queues, idempotency, recovery."""
