"""Converts a run's events to events and items of the Responses API."""
