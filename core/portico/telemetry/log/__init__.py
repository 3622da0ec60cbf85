"""Log lines: format, destinations, repeated failures."""
