"""The SSE gateway: runs as Server-Sent Events, compatible with AgentScope Runtime, and REST for
everything else.
"""
