"""The event log of runs: live runs, encoding, group commit, readers."""
