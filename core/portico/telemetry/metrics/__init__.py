"""Metrics: instruments, readers, export."""
