"""Streams of events that resume after a broken connection."""
