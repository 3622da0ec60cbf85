"""Sandboxes of the core: who owns them, what runs may do with them."""
