"""Converts between the contract's protobuf messages and the core's objects; only this package knows both."""
