"""What every RPC passes: authentication, rate limits, audit, tracing, dispatch."""
