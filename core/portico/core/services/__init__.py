"""The contract's gRPC services: check a request, call the engine or a store, convert the result."""
