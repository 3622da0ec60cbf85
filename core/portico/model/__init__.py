"""Plain data that the agent SDK and the core share: messages, ids and principals."""
