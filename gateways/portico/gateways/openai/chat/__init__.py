"""Chat Completions: one choice, read from a run's log."""
