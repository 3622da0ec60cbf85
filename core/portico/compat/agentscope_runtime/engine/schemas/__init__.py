"""The agent protocol's objects."""
