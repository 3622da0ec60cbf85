"""Chat Completions: converts a run's log to one choice."""
