"""The OpenAI gateway: Responses, Conversations, Chat Completions and models of a core's agents."""
