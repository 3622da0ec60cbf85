"""State, conversations, memory and sandboxes, kept in the process that asks, or in Redis."""
