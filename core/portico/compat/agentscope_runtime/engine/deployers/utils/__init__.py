"""Shared definitions of deploy managers."""
