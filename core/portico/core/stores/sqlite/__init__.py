"""Stores in one SQLite file: connections, migrations, full-text search."""
