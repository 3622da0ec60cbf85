"""Agents in processes of their own: the host that keeps them, and what serves them inside."""
