"""Responses and Conversations: views of runs and sessions, over HTTP and WebSocket."""
