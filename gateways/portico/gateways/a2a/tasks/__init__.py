"""A2A tasks and messages, translated from and to runs."""
