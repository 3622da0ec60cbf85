"""Calls and streams of sandboxes."""
