"""The core: a gRPC server that hosts agents and owns their runs."""
