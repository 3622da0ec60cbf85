"""Deletion of stored data: retention, erasure of a user; and background indexing of messages."""
