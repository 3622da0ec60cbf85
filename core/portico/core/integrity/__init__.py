"""Checks of a database and its machine: `portico doctor`."""
