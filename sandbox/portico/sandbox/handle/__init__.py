"""One sandbox as its owner uses it: calls, files, processes, checkpoints."""
