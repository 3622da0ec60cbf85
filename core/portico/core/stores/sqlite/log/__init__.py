"""The run log in SQLite: writing, reading, deleting and maintaining event chunks."""
