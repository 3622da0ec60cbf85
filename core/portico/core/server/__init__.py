"""The gRPC server: addresses, TLS, start and stop."""
