"""Services for state, conversations, memory and sandboxes, stored in this process or in Redis."""
