"""A2A's bindings: JSON-RPC and HTTP+JSON, and gRPC."""
