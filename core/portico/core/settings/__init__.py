"""The core's settings, read from flags and environment variables."""
