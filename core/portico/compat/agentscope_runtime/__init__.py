"""The names of AgentScope Runtime 1.0: change the package in a program's imports, and Portico runs it.

docs/migrating-from-agentscope-runtime.md says what is there and what differs.
"""
