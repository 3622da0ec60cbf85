"""What AgentScope is given."""
