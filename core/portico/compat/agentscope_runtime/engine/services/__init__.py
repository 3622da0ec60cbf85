"""State and session history, kept as the reference keeps them: in the process that asks."""
