"""The contract: messages and stubs generated from proto/portico/v1."""
