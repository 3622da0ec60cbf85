"""The API of AgentScope Runtime 1.0: after a change of the imports, Portico runs such programs.

docs/migrating-from-agentscope-runtime.md lists what is supported and what differs.
"""
