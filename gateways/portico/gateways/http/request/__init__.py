"""Reads and checks parts of a request: body, parameters, origin."""
