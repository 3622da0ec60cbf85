"""Checks credentials: API keys, and JWTs of a trusted issuer."""
