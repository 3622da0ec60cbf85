"""Reads and checks requests of the Responses API."""
