"""Sandboxes over REST and SSE."""
