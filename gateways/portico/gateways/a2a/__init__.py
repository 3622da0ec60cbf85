"""The A2A gateway: protocol 1.0 on JSON-RPC, HTTP+JSON and gRPC, and protocol 0.3."""
