"""Sandboxes of the core: ownership, the operator's policy, and the sandbox access of runs."""
