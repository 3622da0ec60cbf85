"""The A2A gateway: protocol 1.0 on JSON-RPC, HTTP+JSON and gRPC, and 0.3 beside it."""
