"""Stores over SQL that SQLite and other databases share."""
