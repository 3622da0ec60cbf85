"""The docker backend: a hardened container for each sandbox, by any runtime that the engine knows."""
