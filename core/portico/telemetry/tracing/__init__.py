"""Traces: spans, recorders, export."""
