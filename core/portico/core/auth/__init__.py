"""Whose credential a call brings: API keys, and JWTs of an issuer that is trusted."""
