"""A2A over HTTP and gRPC."""
