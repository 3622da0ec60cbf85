"""Converts A2A's tasks and messages to runs, and back."""
