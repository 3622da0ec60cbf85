"""The core: a gRPC server that executes agents and stores their runs."""
