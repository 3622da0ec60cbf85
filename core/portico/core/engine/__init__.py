"""Runs: their logs, their readers, and the agents that produce them."""
