"""Compares Portico with AgentScope Runtime on one machine: `make bench`, or `python -m benchmarks --help`."""
