"""Builders of event streams, and a client."""
