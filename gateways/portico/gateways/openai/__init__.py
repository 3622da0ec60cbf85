"""The OpenAI gateway: serves a core's agents through Responses, Conversations, Chat Completions and
models.
"""
