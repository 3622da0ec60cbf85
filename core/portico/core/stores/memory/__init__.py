"""Stores in this process's memory: nothing outlives it."""
