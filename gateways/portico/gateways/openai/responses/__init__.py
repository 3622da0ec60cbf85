"""Responses and Conversations: runs and sessions of the core in OpenAI's format, over HTTP and WebSocket."""
