"""The HTTP server's protocols: limits, batching, certificates."""
