"""What AgentScope 1 is given."""
